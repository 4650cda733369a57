//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The bcrypt hash of password.
const (
	password     = "open sesame"
	passwordHash = "$2a$04$cVIlkunofM2L4yt4TU20wefLSl1tmNq0zZBZOigZSysQ6Fsp9344q"
)

// certified writes a certificate for 127.0.0.1 with its key into dir, and returns a client that trusts nothing else.
func certified(t *testing.T, dir string) *http.Client {
	t.Helper()
	cert, file := certify(t, []string{"127.0.0.1"})
	private, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	must(t, err)
	public := []byte(readFile(t, file))
	must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), public, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestTLSAndBasicAuthHoldForEveryPath(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	dir := t.TempDir()
	client := certified(t, dir)
	file := filepath.Join(dir, "web.yml")
	secure := func(user string) {
		must(t, os.WriteFile(file, fmt.Appendf(nil, "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {%s: %q}\n", user, passwordHash), 0o600))
	}
	secure("sre")
	s.settings.Web.ConfigFile, s.settings.Web.Reload = file, true
	d := startConfigured(t, s.settings)
	d.await(t, 0, `"event":"audit_finished"`)
	addr := strings.TrimPrefix(d.url, "http://")
	ask := func(method, path, user, pass string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+addr+path, nil)
		must(t, err)
		if user != "" {
			req.SetBasicAuth(user, pass)
		}
		resp, err := client.Do(req)
		must(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		return resp.StatusCode
	}
	for _, p := range []struct {
		method, path string
		status       int // for permitted users
	}{
		{"GET", "/", 200},
		{"GET", "/metrics", 200},
		{"GET", "/api/v1/report", 200},
		{"GET", "/api/v1/history", 200},
		{"GET", "/-/healthy", 200},
		{"GET", "/-/ready", 200},
		{"POST", "/-/reload", 200},
		{"GET", "/nowhere", 404},
	} {
		for _, who := range []struct {
			sentence, user, pass string
			status               int
		}{
			{"the right password opens", "sre", password, p.status},
			{"a wrong password does not", "sre", password + "!", 401},
			{"nor does another user", "root", password, 401},
			{"nor does none", "", "", 401},
		} {
			if got := ask(p.method, p.path, who.user, who.pass); got != who.status {
				t.Errorf("%s %s is answered with %d, want %d: %s", p.method, p.path, got, who.status, who.sentence)
			}
		}
		if status, body := get(t, d.url+p.path); status != 400 || strings.Contains(body, "kms") {
			t.Errorf("without TLS %s is answered with %d %s", p.path, status, body)
		}
	}
	if n := strings.Count(strings.Join(d.logged(), "\n"), `"event":"config_reloaded"`); n != 1 {
		t.Errorf("it was reloaded %d times, want once, by the right password", n)
	}

	// Users and certificates need no reload.
	secure("other")
	if old, now := ask("GET", "/metrics", "sre", password), ask("GET", "/metrics", "other", password); old != 401 || now != 200 {
		t.Errorf("after the users changed, the old one gets %d and the new one %d", old, now)
	}

	// A file that became invalid is reported without its content.
	must(t, os.WriteFile(file, []byte("basic_auth_users: ["+password+"]\n"), 0o600))
	from := len(d.logged())
	must(t, d.cmd.Process.Signal(syscall.SIGHUP))
	line, _ := d.await(t, from, `"event":"config_reloaded"`, `"ok":false`, "web.config_file")
	if strings.Contains(line, password) || strings.Contains(line, password[:7]) {
		t.Errorf("the log shows the file's content: %s", line)
	}
}
