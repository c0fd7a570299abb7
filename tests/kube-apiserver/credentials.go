package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const issuer = "https://kubernetes.default.svc"

// A user that the server knows by a static token.
type user struct {
	name, group, token, kubeconfig string
}

var users = []user{
	{"admin", "system:masters", "admin-token", "kubeconfig"},
	// Has no right at all until a test binds a role to it.
	{"reader", "isthmus:readers", "reader-token", "kubeconfig-reader"},
}

type credentials struct {
	caPEM                                               []byte
	certFile, keyFile, tokenFile, serviceAccountKeyFile string
}

// newCredentials makes the serving certificate, the key that signs
// service-account tokens and the list of static tokens, all new on each start.
func newCredentials(dir string) (*credentials, error) {
	c := &credentials{
		certFile:              filepath.Join(dir, "server.crt"),
		keyFile:               filepath.Join(dir, "server.key"),
		tokenFile:             filepath.Join(dir, "tokens.csv"),
		serviceAccountKeyFile: filepath.Join(dir, "service-account.key"),
	}
	caPEM, certPEM, keyPEM, err := servingCertificate()
	if err != nil {
		return nil, err
	}
	c.caPEM = caPEM
	serviceAccountKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	var tokens strings.Builder
	for _, u := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%s\n", u.token, u.name, u.name, u.group)
	}
	files := map[string][]byte{
		c.certFile:              certPEM,
		c.keyFile:               keyPEM,
		c.tokenFile:             []byte(tokens.String()),
		c.serviceAccountKeyFile: encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(serviceAccountKey)),
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// servingCertificate returns a CA and a certificate of it for 127.0.0.1. They
// are two certificates because rustls refuses a CA as a server's own.
func servingCertificate() (caPEM, certPEM, keyPEM []byte, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	ca := template(1, "CA of a test")
	ca.KeyUsage = x509.KeyUsageCertSign
	ca.IsCA = true
	leaf := template(2, "kube-apiserver of a test")
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf.DNSNames = []string{"localhost", "kubernetes.default.svc"}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	return encode("CERTIFICATE", caDER), encode("CERTIFICATE", leafDER), encode("EC PRIVATE KEY", keyDER), err
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		BasicConstraintsValid: true,
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// kubeconfig names no file: it can be put into a remote-cluster Secret as it is.
func (c *credentials) kubeconfig(server string, u user) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
contexts:
- name: test
  context: {cluster: test, user: %[1]s}
clusters:
- name: test
  cluster:
    server: %[3]s
    certificate-authority-data: %[4]s
users:
- name: %[1]s
  user: {token: %[2]s}
`, u.name, u.token, server, base64.StdEncoding.EncodeToString(c.caPEM))
}

// waitReady polls /readyz until the server has run its start-up hooks.
func (c *credentials) waitReady(server string, limit time.Duration) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.caPEM)
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, server+"/readyz", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+users[0].token)
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("not ready after %s", limit)
}

func writeAtomically(path string, content []byte) error {
	draft := path + ".new"
	if err := os.WriteFile(draft, content, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, path)
}
