package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
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
	final    int // toggles that are final
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
	w.tell(false)
	w.api, err = newProxy(w.claims.URL)
	return w, err
}

// startNode returns where the node serves.
func (w *world) startNode() (string, error) {
	secret := filepath.Join(w.dir, "jwt")
	if err := os.WriteFile(secret, []byte(hexutil.Encode(jwtSecret[:])), 0o600); err != nil {
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
