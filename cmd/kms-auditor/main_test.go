package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/rogpeppe/go-internal/testscript"

	main "github.com/kms-auditor/kms-auditor/cmd/kms-auditor"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kms-auditor": main.Main})
}

var (
	contract = testchain.Address("contract")
	unlisted = testchain.Address("unlisted") // a contract that the API does not list; its events name what it allows
	device   = common.BigToHash(common.Big1)
	image    = common.BigToHash(common.Big2)
)

// TestScripts runs the program against a chain in this process that all scripts share, and an API that each has of its own.
// Both say the same until a script says otherwise.
func TestScripts(t *testing.T) {
	chain, err := testchain.Start(testchain.Options{
		ChainID: 8453,
		Preload: []testchain.Preload{{Address: contract, Devices: []common.Hash{device}, Images: []common.Hash{image}}, {Address: unlisted}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	chain.Commit()
	if err := chain.KMS(unlisted).Seed(t.Context(), []common.Hash{device}, []common.Hash{image}); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	// The scripts run in parallel, after this function: a group keeps chain and port until they are done.
	t.Run("group", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 "testdata/script",
			RequireExplicitExec: true,
			RequireUniqueNames:  true,
			Cmds:                commands,
			Setup: func(env *testscript.Env) error {
				env.Setenv("BUSY", busy.Addr().String())
				env.Setenv("CONTRACT", contract.Hex())
				env.Setenv("UNLISTED", unlisted.Hex())
				return newWorld(chain.URL()).into(env)
			},
		})
	})
}

// world is what one script audits.
type world struct {
	api     *fakeapi.Server
	proxy   *rpcfault.Proxy
	called  chan struct{} // of capacity 1: the provider got a call
	apiHTTP *httptest.Server
	rpcHTTP *httptest.Server

	terminated *exec.Cmd
	held       *state.State // by hold
	signer     *signer      // by beacon
}

func newWorld(upstream string) *world {
	yes, name := true, image.Hex()
	w := &world{
		api: fakeapi.New(fakeapi.Chain{ChainName: "base", ChainID: 8453, Contracts: []fakeapi.Contract{{
			Address: contract.Hex(), ChainID: 8453, ChainName: "base",
			Devices:  []fakeapi.Device{{ID: device.Hex(), Allowed: &yes}},
			OSImages: []fakeapi.OSImage{{Name: "dstack-0.5.8", Version: "0.5.8", Hash: &name, Allowed: &yes}},
		}}}),
		proxy:  rpcfault.New(upstream),
		called: make(chan struct{}, 1),
	}
	w.proxy.Watch(func(rpcfault.Call) {
		select {
		case w.called <- struct{}{}:
		default:
		}
	})
	w.apiHTTP, w.rpcHTTP = httptest.NewServer(w.api), httptest.NewServer(w.proxy)
	return w
}

// into gives the script a configuration of this world, auditor.yaml, and takes the world down after it.
func (w *world) into(env *testscript.Env) error {
	env.Values["world"] = w
	env.Defer(func() {
		w.api.Close()
		w.apiHTTP.Close()
		w.rpcHTTP.Close()
	})
	return os.WriteFile(filepath.Join(env.WorkDir, "auditor.yaml"), fmt.Appendf(nil, `
confirm_delay: 0s
pending_max: 0s
api: {base_url: %s/api/v1}
chains:
  - name: base
    chain_id: 8453
    block: latest
    providers: [{name: local, url: %s}]
web: {listen: ["127.0.0.1:0"]}
`, w.apiHTTP.URL, w.rpcHTTP.URL), 0o644)
}

// wait blocks until the provider is called.
func (w *world) wait(ctx context.Context) error {
	select {
	case <-w.called:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a call of the provider: %w", ctx.Err())
	}
}
