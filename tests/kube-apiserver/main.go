// Command kube-apiserver is a real kube-apiserver with an embedded etcd in one
// process. The multi-cluster tests start one for each cluster.
//
// README.md says what it serves and what it leaves out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // the server validates CronJob time zones; the host may have none

	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

type options struct {
	dir           string
	port          int
	anonymous     bool
	exitWithStdin bool
	extra         []string
}

func parseOptions() (options, error) {
	var o options
	flag.StringVar(&o.dir, "dir", "", "folder for state, certificates and kubeconfigs (made if missing)")
	flag.IntVar(&o.port, "port", 0, "port on 127.0.0.1 (0: any free one)")
	flag.BoolVar(&o.anonymous, "anonymous", false, "let requests without credentials in as system:anonymous")
	flag.BoolVar(&o.exitWithStdin, "exit-with-stdin", false, "end when stdin closes, so that no server outlives its test")
	flag.Parse()
	o.extra = flag.Args()
	if o.dir == "" {
		return o, errors.New("--dir is required")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return o, err
	}
	o.dir = dir
	return o, os.MkdirAll(dir, 0o700)
}

func main() {
	if err := run(); err != nil {
		log.Fatal("kube-apiserver: ", err)
	}
}

func run() error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	if o.exitWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	if o.port == 0 {
		if o.port, err = freePort(); err != nil {
			return err
		}
	}
	etcdURL, err := startEtcd(filepath.Join(o.dir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	creds, err := newCredentials(o.dir)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	server := fmt.Sprintf("https://127.0.0.1:%d", o.port)
	go func() {
		if err := announce(o.dir, server, creds); err != nil {
			log.Fatal("kube-apiserver: ", err)
		}
	}()
	command := app.NewAPIServerCommand()
	command.SetArgs(append(serverArgs(o, etcdURL, creds), o.extra...))
	return command.Execute()
}

// announce writes the kubeconfigs once the server is ready, then says so on
// stdout: whoever reads "ready" may use them at once.
func announce(dir, server string, creds *credentials) error {
	if err := creds.waitReady(server, time.Minute); err != nil {
		return err
	}
	for _, user := range users {
		path := filepath.Join(dir, user.kubeconfig)
		if err := writeAtomically(path, creds.kubeconfig(server, user)); err != nil {
			return err
		}
	}
	_, err := fmt.Println("ready", server)
	return err
}

func serverArgs(o options, etcdURL string, creds *credentials) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", o.port),
		"--tls-cert-file=" + creds.certFile,
		"--tls-private-key-file=" + creds.keyFile,
		"--token-auth-file=" + creds.tokenFile,
		"--service-account-key-file=" + creds.serviceAccountKeyFile,
		"--service-account-signing-key-file=" + creds.serviceAccountKeyFile,
		"--service-account-issuer=" + issuer,
		// istio-ca is the audience of the token that pilot-agent presents.
		"--api-audiences=istio-ca," + issuer,
		"--authorization-mode=Node,RBAC",
		fmt.Sprintf("--anonymous-auth=%t", o.anonymous),
		"--service-cluster-ip-range=10.96.0.0/12",
		// Nothing here makes the default ServiceAccounts that this plugin asks for.
		"--disable-admission-plugins=ServiceAccount",
		"--profiling=false",
		"--max-requests-inflight=2000",
		"--max-mutating-requests-inflight=2000",
	}
}

// freePort finds a port below those that the kernel gives to clients (from
// 32768 on), one of which could be taken before the server listens on it.
func freePort() (int, error) {
	for range 100 {
		port := 16384 + rand.IntN(16384)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 16384 and 32767")
}
