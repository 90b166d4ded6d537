package devstacktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Authority issues certificates.
type Authority struct {
	File string // its own certificate, PEM

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority creates a certificate authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{}
	a.certificate, a.key, a.File, _ = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// Certificate issues a certificate for a server at 127.0.0.1 or a client, and
// returns the files of the certificate and its key.
func (a *Authority) Certificate(t testing.TB, notAfter time.Time) (certificateFile, keyFile string) {
	t.Helper()
	_, _, certificateFile, keyFile = a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "certificate"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return certificateFile, keyFile
}

// issue signs the certificate; a new authority signs its own.
func (a *Authority) issue(t testing.TB, template *x509.Certificate) (issued *x509.Certificate, key *ecdsa.PrivateKey, certificateFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template.NotBefore = time.Now().Add(-24 * time.Hour)
	parent, parentKey := a.certificate, a.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	require.NoError(t, err)
	issued, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600))
		return path
	}
	return issued, key, write("certificate.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}

// SecureTemporal describes a Temporal behind TLS, such as Temporal Cloud.
type SecureTemporal struct {
	Authority *Authority // of its certificate
	NotAfter  time.Time  // when that expires; in an hour unless set
	Clients   *Authority // of its clients' certificates; nil asks for none
	APIKey    string     // required from clients; "" requires none
}

// Start starts a TLS proxy for the Temporal at the address, and returns the
// proxy's address.
func (s SecureTemporal) Start(t testing.TB, temporal string) (address string) {
	t.Helper()
	if s.NotAfter.IsZero() {
		s.NotAfter = time.Now().Add(time.Hour)
	}
	certificate, err := tls.LoadX509KeyPair(s.Authority.Certificate(t, s.NotAfter))
	require.NoError(t, err)
	plain := &http.Protocols{}
	plain.SetUnencryptedHTTP2(true) // gRPC without TLS
	transport := &http.Transport{Protocols: plain}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: temporal})
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of disconnected clients
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.APIKey != "" && r.Header.Get("Authorization") != "Bearer "+s.APIKey {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "16") // UNAUTHENTICATED
			w.Header().Set("Grpc-Message", "invalid API key")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = proxy.ErrorLog
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	if s.Clients != nil {
		server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		server.TLS.ClientCAs = x509.NewCertPool()
		server.TLS.ClientCAs.AddCert(s.Clients.certificate)
	}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections() // long polls
		server.Close()
	})
	return server.Listener.Addr().String()
}
