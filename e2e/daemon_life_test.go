//go:build e2e

package e2e_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

func TestDaemonEndsOnSignal(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.Schedule, s.settings.Timeout = "@every 1h", "2m"
	s.settings.API.Timeout, s.settings.Chains[0].Providers[0].Timeout = "1m", "1m"
	for _, row := range []struct {
		sentence string
		signal   os.Signal
		hang     func(t *testing.T) (arrived func()) // makes a source hang; nil if the audit ends first
	}{
		{"SIGTERM, while the provider does not answer", syscall.SIGTERM, func(*testing.T) func() {
			asked := make(chan struct{}, 1000)
			s.proxy.Watch(func(rpcfault.Call) { asked <- struct{}{} })
			s.proxy.Set(rpcfault.Hang)
			return func() { <-asked }
		}},
		{"SIGTERM, while the API does not answer", syscall.SIGTERM, func(t *testing.T) func() {
			must(t, s.api.fail(fakeapi.Fault{Name: fakeapi.Hang}))
			before, err := s.api.requests()
			must(t, err)
			return func() {
				eventually(t, "the API is asked", func() bool {
					n, err := s.api.requests()
					return err == nil && n > before
				})
			}
		}},
		{"SIGINT, between two audits", syscall.SIGINT, nil},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Cleanup(func() {
				s.proxy.Set(rpcfault.Fault{})
				s.proxy.Watch(nil)
				must(t, s.api.heal())
			})
			arrived := func() {}
			if row.hang != nil {
				arrived = row.hang(t)
			}
			d := startDaemon(t, s.settings)
			arrived()
			if row.hang == nil {
				d.await(t, 0, `"event":"audit_finished"`)
			}
			began := time.Now()
			code := d.end(t, row.signal)
			if took := time.Since(began); code != 0 || took > 5*time.Second {
				t.Errorf("exit code %d after %s:\n%s", code, took, strings.Join(d.logged(), "\n"))
			}
			finished := strings.Contains(strings.Join(d.logged(), "\n"), "audit_finished")
			if finished != (row.hang == nil) {
				t.Errorf("an audit was reported: %t\n%s", finished, strings.Join(d.logged(), "\n"))
			}
		})
	}
}

func TestDaemonIsReadyAfterItsFirstAudit(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	s.settings.Chains[0].Providers[0].Timeout = "1m"
	release := make(chan struct{})
	s.proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, _ []rpcfault.Call, _ bool) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	}})
	d := startDaemon(t, s.settings)
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/-/healthy": 200, "/-/ready": 503, "/api/v1/report": 503} {
		if status, body := get(t, d.url+path); status != want {
			t.Errorf("in the first audit %s answers %d: %s", path, status, body)
		}
	}
	close(release)
	d.await(t, 0, `"event":"audit_finished"`, `"verdict":"consistent"`)
	for _, path := range []string{"/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/report"} {
		d.page(t, path)
	}
}

func TestSecondDaemonOnThePortCannotServe(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	d := startDaemon(t, s.settings)
	addr := strings.TrimPrefix(d.url, "http://")
	code, stdout, stderr := runAuditor(t, "audit", "-c", writeConfig(t, s.settings), "--web.listen-address", addr)
	last := stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]
	if code != 1 || stdout != "" || !hasAll(last, []string{"listening on " + addr, "address already in use", "--web.listen-address"}) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if strings.Contains(stderr, "audit_started") {
		t.Errorf("it audited although it cannot serve:\n%s", stderr)
	}
}

func TestDaemonRefusesBadConfig(t *testing.T) {
	t.Parallel()
	for sentence, row := range map[string]struct {
		config string
		parts  []string
	}{
		"two mistakes are told at once": {"scedule: '@hourly'\nchains: []\n", []string{"scedule", "chains"}},
		"a schedule that never fires":   {"schedule: '0 0 31 2 *'\n", []string{"schedule", "never"}},
		"a web file that is not there":  {"web: {config_file: nowhere.yaml}\n", []string{"web.config_file", "nowhere.yaml"}},
	} {
		code, stdout, stderr := runAuditor(t, "audit", "-c", writeConfig(t, row.config))
		if code != 2 || stdout != "" || !hasAll(stderr, row.parts) {
			t.Errorf("%s: exit code %d\n%s%s", sentence, code, stdout, stderr)
		}
	}
}

func TestDaemonOutlivesAProviderThatIsDownAtStart(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, 1)
	addr, revive := deadPort(t)
	s.settings.Chains[0].Providers[0].URL = "http://" + addr
	d := startDaemon(t, s.settings)
	d.finds(t, "unknown")
	d.await(t, 0, `"event":"source_failed"`, `"stage":"rpc"`, `connection refused`)
	d.page(t, "/-/ready")
	revive(s.proxy)
	d.finds(t, "consistent")
}

// deadPort reserves a port without listening, so that connections are refused. revive serves on it.
func deadPort(t testing.TB) (addr string, revive func(http.Handler)) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), "dead port")
	t.Cleanup(func() { f.Close() })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	bound, err := syscall.Getsockname(fd)
	must(t, err)
	at := bound.(*syscall.SockaddrInet4)
	return (&net.TCPAddr{IP: at.Addr[:], Port: at.Port}).String(), func(h http.Handler) {
		must(t, syscall.Listen(fd, syscall.SOMAXCONN))
		l, err := net.FileListener(f)
		must(t, err)
		srv := httptest.NewUnstartedServer(h)
		srv.Listener.Close()
		srv.Listener = l
		srv.Start()
		t.Cleanup(func() {
			srv.CloseClientConnections()
			srv.Close()
		})
	}
}

// eventually polls ten times a second until the condition holds.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !yes(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
