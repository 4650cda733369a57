package web_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/web"
)

// hash is bcrypt's of "open sesame".
const hash = "$2a$04$cVIlkunofM2L4yt4TU20wefLSl1tmNq0zZBZOigZSysQ6Fsp9344q"

// secured writes a web configuration with TLS and basic auth, and returns it with a client that trusts its certificate.
func secured(t *testing.T) (string, *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	file := write(t, dir, "web.yml", fmt.Appendf(nil, `
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
http_server_config: {headers: {Content-Security-Policy: "default-src 'self'"}}
basic_auth_users: {sre: %s}
`, hash))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return file, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLSAndBasicAuth(t *testing.T) {
	file, trusting := secured(t)
	if err := web.Check(file); err != nil {
		t.Fatal(err)
	}
	o := options(first)
	o.ConfigFile = file
	s := serve(t, o, 2)
	for _, tt := range []struct {
		name, user, password string
		status               int
	}{
		{"the right password opens", "sre", "open sesame", 200},
		{"a wrong password does not", "sre", "open sesam", 401},
		{"nor does another user", "root", "open sesame", 401},
		{"nor does none", "", "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, addr := range s.addrs {
				req := request(t, "GET", "https://"+addr+"/api/v1/report")
				if tt.user != "" {
					req.SetBasicAuth(tt.user, tt.password)
				}
				resp, body := ask(t, trusting, req)
				if resp.StatusCode != tt.status || strings.Contains(body, first.AuditID) != (tt.status == 200) {
					t.Errorf("%d %q, want %d", resp.StatusCode, body, tt.status)
				}
				if got := resp.Header.Values("Content-Security-Policy"); len(got) != 1 || got[0] != "default-src 'self'" {
					t.Errorf("the configured header gave way to %q", got)
				}
			}
		})
	}
	t.Run("plain HTTP gets no report", func(t *testing.T) {
		resp, _ := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/api/v1/report"))
		if resp.StatusCode != 400 {
			t.Errorf("%d, want 400", resp.StatusCode)
		}
	})
}

func TestABadWebConfigurationIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, file := range map[string]string{
		"missing":                       filepath.Join(dir, "none.yml"),
		"with a key that is not known":  write(t, dir, "unknown.yml", []byte("tls: {}\n")),
		"with a password as plain text": write(t, dir, "plain.yml", []byte("basic_auth_users: {sre: sesame}\n")),
		"with a certificate that is not there": write(t, dir, "cert.yml",
			[]byte("tls_server_config: {cert_file: a.pem, key_file: b.pem}\n")),
	} {
		t.Run(name, func(t *testing.T) {
			if err := web.Check(file); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("Check = %v, want an error that names %s", err, file)
			}
			o := options(nil)
			o.ConfigFile = file
			listeners, err := web.Listen([]string{"127.0.0.1:0", "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			if err := web.Serve(t.Context(), listeners, o); err == nil {
				t.Error("Serve = nil, want an error")
			}
			for _, l := range listeners {
				if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
					c.Close()
					t.Errorf("%s is still bound", l.Addr())
				}
			}
		})
	}
	if err := web.Check(""); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func TestListenBindsAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	_, err = web.Listen([]string{free.Addr().String(), taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "listening on "+taken.Addr().String()) {
		t.Fatalf("Listen = %v, want an error that names %s", err, taken.Addr())
	}
	if c, err := net.Dial("tcp", free.Addr().String()); err == nil {
		c.Close()
		t.Errorf("%s stayed bound", free.Addr())
	}
}

// held serves reports that wait for the test.
func held(t *testing.T) (s *running, entered <-chan struct{}, release chan<- struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	o := options(nil)
	o.Report = func() *audit.Report {
		in <- struct{}{}
		<-out
		return first
	}
	return serve(t, o, 1), in, out
}

type answer struct {
	status int
	err    error
}

// fetch asks for the report in the background.
func fetch(t *testing.T, s *running) <-chan answer {
	got, req := make(chan answer, 1), request(t, "GET", "http://"+s.addrs[0]+"/api/v1/report")
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			got <- answer{err: err}
			return
		}
		resp.Body.Close()
		got <- answer{status: resp.StatusCode}
	}()
	return got
}

func TestShutdownLetsOpenRequestsFinish(t *testing.T) {
	s, entered, release := held(t)
	got := fetch(t, s)
	<-entered
	s.stop()
	for { // until shutting down has begun
		c, err := net.Dial("tcp", s.addrs[0])
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if a := <-got; a.err != nil || a.status != 200 {
		t.Errorf("the open request got %d, %v", a.status, a.err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestShutdownCutsRequestsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	s, entered, release := held(t)
	got := fetch(t, s)
	<-entered
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Serve = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve waits for ever")
	}
	if a := <-got; a.err == nil {
		t.Errorf("the request got %d after all", a.status)
	}
	close(release)
}

func TestServingAfterTheEndIsClean(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	listeners, err := web.Listen([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := web.Serve(ctx, listeners, options(nil)); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestAListenerThatFailsEndsThemAll(t *testing.T) {
	listeners, err := web.Listen([]string{"127.0.0.1:0", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	listeners[1].Close()
	err = web.Serve(t.Context(), listeners, options(nil))
	if err == nil || !strings.Contains(err.Error(), "serving on "+listeners[1].Addr().String()) {
		t.Errorf("Serve = %v, want an error that names %s", err, listeners[1].Addr())
	}
}
