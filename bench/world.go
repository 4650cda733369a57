package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// world is what is audited: one geth that serves all chains, one API, and a proxy before each.
type world struct {
	*programs
	*ledger
	dir      string
	node     *exec.Cmd
	authURL  string // where geth is told what is finalized
	api, rpc *proxy
	claims   *claims
}

var endpoints = regexp.MustCompile(`HTTP server started +endpoint=(127\.0\.0\.1:\d+) auth=(true|false)`)

// newWorld makes a world of the size. The API tells the truth.
func (p *programs) newWorld(s size) (w *world, err error) {
	w = &world{programs: p}
	defer func() {
		if err != nil {
			w.close()
			err = fmt.Errorf("making a world of %s: %w", s, err)
		}
	}()
	if w.dir, err = os.MkdirTemp("", "kms-auditor-bench-"); err != nil {
		return w, err
	}
	if w.ledger, err = p.openLedger(s, w.dir); err != nil {
		return w, err
	}
	node, err := w.startNode()
	if err != nil {
		return w, err
	}
	if w.rpc, err = newProxy(node); err != nil {
		return w, err
	}
	w.claims = newClaims()
	w.tell(false, true)
	w.api, err = newProxy(w.claims.URL)
	return w, err
}

// startNode returns where the node serves.
func (w *world) startNode() (string, error) {
	secret := filepath.Join(w.dir, "jwt")
	if err := os.WriteFile(secret, []byte(hexutil.Encode(make([]byte, 32))), 0o600); err != nil {
		return "", err
	}
	w.node = exec.Command(w.geth, "--datadir", w.dir, "--networkid", w.rules.ChainID.String(), "--maxpeers", "0", "--nodiscover", "--ipcdisable", "--port", "0",
		"--history.logs.disable", "--gcmode", "archive", "--state.scheme", "hash", "--cache", "512",
		"--http", "--http.addr", "127.0.0.1", "--http.port", "0", "--http.api", "eth,net,web3", "--authrpc.port", "0", "--authrpc.jwtsecret", secret)
	out, err := w.node.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := w.node.Start(); err != nil {
		return "", err
	}
	url, said := "", ""
	in := bufio.NewScanner(out)
	for (url == "" || w.authURL == "") && in.Scan() {
		said += in.Text() + "\n"
		m := endpoints.FindStringSubmatch(in.Text())
		switch {
		case m == nil:
		case m[2] == "true":
			w.authURL = "http://" + m[1]
		default:
			url = "http://" + m[1]
		}
	}
	if url == "" || w.authURL == "" {
		return "", fmt.Errorf("starting geth: it did not say where it listens\n%s", said)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until geth ends
	return url, nil
}

// delay makes every request to API and node wait.
func (w *world) delay(d time.Duration) {
	w.api.delay.Store(int64(d))
	w.rpc.delay.Store(int64(d))
}

func (w *world) close() {
	for _, p := range []*proxy{w.api, w.rpc} {
		if p != nil {
			p.CloseClientConnections()
			p.Close()
		}
	}
	if w.claims != nil {
		w.claims.Close()
	}
	if w.node != nil && w.node.Process != nil {
		_ = w.node.Process.Kill() // its database is thrown away
		_ = w.node.Wait()
	}
	_ = os.RemoveAll(w.dir)
}

// claims is the API. It makes an answer once, so that making it costs nothing while others are measured.
type claims struct {
	*httptest.Server
	api *fakeapi.Server
	mu  sync.Mutex
	had map[string][]byte
}

func newClaims() *claims {
	c := &claims{api: fakeapi.New(), had: map[string][]byte{}}
	c.Server = httptest.NewServer(c)
	return c
}

func (c *claims) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, ok := c.had[r.URL.Path]
	if !ok {
		answer := httptest.NewRecorder()
		c.api.ServeHTTP(answer, r)
		body = answer.Body.Bytes()
		c.had[r.URL.Path] = body
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that went away is its own affair
}

func (c *claims) set(chain fakeapi.Chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.api.Set(chain)
	clear(c.had)
}

// tell makes the API claim what the contracts say, with the differences of seeds or without, and with the toggled image
// as given.
func (w *world) tell(seeded, toggledOn bool) {
	chains := make([]fakeapi.Chain, w.size.chains)
	for i := range chains {
		chains[i] = fakeapi.Chain{ChainName: chainName(i), ChainID: w.rules.ChainID.Uint64()}
	}
	for c, at := range w.contracts {
		chain := &chains[w.size.chainOf(c)]
		row := fakeapi.Contract{Address: at.Hex(), ChainID: chain.ChainID, ChainName: chain.ChainName}
		for i, e := range w.size.entriesOf(c) {
			id, claim := e.id.Hex(), e.allowed
			if c == 0 && i == toggled {
				claim = toggledOn
			}
			if seeded && isSeed(i) {
				claim = !claim
			}
			if e.device {
				row.Devices = append(row.Devices, fakeapi.Device{ID: id, NodeName: new(fmt.Sprintf("prod%d", i)), Allowed: &claim})
			} else {
				row.OSImages = append(row.OSImages, fakeapi.OSImage{Name: "dstack", Version: fmt.Sprintf("0.5.%d", i), Hash: &id, Allowed: &claim})
			}
		}
		chain.Contracts = append(chain.Contracts, row)
	}
	for _, chain := range chains {
		w.claims.set(chain)
	}
}

// isSeed tells whether the API lies of the entry number i of every contract, where it is told to: a device and an image
// that are allowed, and an image that is not.
func isSeed(i int) bool { return i == 0 || i == 3 || i == 9 }
