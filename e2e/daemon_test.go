//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// patience bounds every wait for the daemon. The machine may be busy.
const patience = 30 * time.Second

// scene is a contract whose entries both the API and the chain allow.
type scene struct {
	*node
	api             *api
	kms             *testchain.KMS
	devices, images []common.Hash
	settings        settings
}

// newScene deploys a contract with some entries on a fresh node. Its settings audit every second.
func newScene(t testing.TB, devices, images int, apiArgs ...string) *scene {
	t.Helper()
	return sceneOn(t, startNode(t, "anvil"), devices, images, apiArgs...)
}

func sceneOn(t testing.TB, n *node, devices, images int, apiArgs ...string) *scene {
	t.Helper()
	s := &scene{node: n, api: startAPI(t, apiArgs...), kms: n.deploy(t)}
	s.devices, s.images = ids("device", devices), ids("image", images)
	must(t, s.kms.Seed(t.Context(), s.devices, s.images))
	must(t, s.api.put(s.claim()))
	s.settings = n.settings(s.api)
	s.settings.Schedule = "@every 1s"
	s.settings.Web = &webSettings{Listen: []string{"127.0.0.1:0"}}
	return s
}

func ids(of string, n int) []common.Hash {
	out := make([]common.Hash, n)
	for i := range out {
		out[i] = common.BytesToHash(fmt.Appendf(nil, "%s %d of the daemon's scene", of, i))
	}
	return out
}

// claim returns the true claim.
func (s *scene) claim() fakeapi.Chain {
	var devices []fakeapi.Device
	for _, id := range s.devices {
		devices = append(devices, fakeapi.Device{ID: id.Hex(), Allowed: new(true)})
	}
	var images []fakeapi.OSImage
	for i, id := range s.images {
		images = append(images, fakeapi.OSImage{Name: "image", Version: fmt.Sprint(i), Hash: new(id.Hex()), Allowed: new(true)})
	}
	return s.node.claim(s.kms.Address(), devices, images)
}

// daemon is a process of kms-auditor audit, with its log.
type daemon struct {
	*process
	url string

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when there is a new line
}

func startDaemon(t testing.TB, s settings, env ...string) *daemon {
	t.Helper()
	d := &daemon{more: make(chan struct{})}
	var addr string
	d.process, addr = start(t, `"msg":"serving".*"addresses":\["([^"]+)"`, filepath.Join(bin, "kms-auditor"),
		[]string{"audit", "-c", writeConfig(t, s)}, env, d.add)
	d.url = "http://" + addr
	return d
}

func (d *daemon) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	close(d.more)
	d.more = make(chan struct{})
}

// logged returns the lines so far.
func (d *daemon) logged() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines
}

// await waits for a line with all of the parts, from line number from on, and returns it and the number of the next.
func (d *daemon) await(t testing.TB, from int, parts ...string) (line string, next int) {
	t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		lines, more := d.lines, d.more
		d.mu.Unlock()
		for ; from < len(lines); from++ {
			if hasAll(lines[from], parts) {
				return lines[from], from + 1
			}
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no line with %q within %s:\n%s", parts, patience, strings.Join(lines, "\n"))
		}
	}
}

func hasAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// audit waits for an audit that starts after the call and ends, and returns its wide line.
func (d *daemon) audit(t testing.TB) string {
	t.Helper()
	_, from := d.await(t, len(d.logged()), `"event":"audit_started"`)
	line, _ := d.await(t, from, `"event":"audit_finished"`)
	return line
}

// finds fails the test unless the next audit ends with the verdict.
func (d *daemon) finds(t testing.TB, verdict string) {
	t.Helper()
	if line := d.audit(t); !strings.Contains(line, `"verdict":"`+verdict+`"`) {
		t.Fatalf("no verdict %s:\n%s\n%s", verdict, line, d.page(t, "/api/v1/report"))
	}
}

// get returns the status and body of a page.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// page returns the body of a page, which must have status 200.
func (d *daemon) page(t testing.TB, path string) string {
	t.Helper()
	status, body := get(t, d.url+path)
	if status != http.StatusOK {
		t.Fatalf("%s answers %d: %s", path, status, body)
	}
	return body
}
