// Package testenv starts a real chain with a KMS, behind a proxy that can make it fail or lie.
package testenv

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// World is a chain behind a proxy. It runs until its test ends.
type World struct {
	Chain *testchain.Chain
	KMS   *testchain.KMS
	Proxy *rpcfault.Proxy
	URL   string // of the proxy
}

// Start starts a chain.
func Start(t testing.TB, opt testchain.Options) *World {
	t.Helper()
	chain, err := testchain.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	w := &World{Chain: chain, Proxy: rpcfault.New(chain.URL())}
	w.URL = Serve(t, w.Proxy)
	return w
}

// Deploy starts a chain and deploys a KMS that allows a device and an OS image.
func Deploy(t testing.TB, device, image common.Hash) *World {
	t.Helper()
	w := Start(t, testchain.Options{})
	var err error
	if w.KMS, err = w.Chain.Deploy(t.Context(), testchain.DeployOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.KMS.Seed(t.Context(), []common.Hash{device}, []common.Hash{image}); err != nil {
		t.Fatal(err)
	}
	w.Chain.Commit()
	return w
}

// Serve serves a handler until the test ends, and returns its URL.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}
