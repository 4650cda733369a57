//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// nodes are the programs that serve a chain, with the output line of each that has the address. geth keeps all state, so that no row
// depends on the number of blocks before.
var nodes = map[string]struct {
	args  []string
	ready string
}{
	"anvil": {[]string{"--host", "127.0.0.1", "--port", "0"}, `Listening on (127\.0\.0\.1:\d+)`},
	"geth":  {append([]string{"--dev", "--gcmode", "archive", "--state.scheme", "hash"}, served...), `HTTP server started +endpoint=(127\.0\.0\.1:\d+)`},
}

// served makes geth serve only JSON-RPC, on a free port.
var served = []string{"--http", "--http.addr", "127.0.0.1", "--http.port", "0", "--http.api", "eth,net,web3",
	"--ipcdisable", "--authrpc.port", "0", "--port", "0", "--nodiscover"}

// node is a chain on a real node, behind a proxy that can inject faults.
type node struct {
	name    string
	url     string // of the node itself
	proxied string // of the proxy
	proxy   *rpcfault.Proxy
	client  *ethclient.Client
	chainID uint64
}

func startNode(t testing.TB, name string, more ...string) *node {
	t.Helper()
	args := slices.Concat(nodes[name].args, more)
	if name == "anvil" {
		args = append(args, "--cache-path", t.TempDir()) // else its states stay in the home folder
	}
	n := dialNode(t, name, args)
	must(t, testchain.Fund(t.Context(), n.client, testchain.Address("owner")))
	return n
}

// dialNode starts a node and connects to it.
func dialNode(t testing.TB, name string, args []string) *node {
	t.Helper()
	_, addr := start(t, nodes[name].ready, tool(t, name), args, nil, nil)
	return joinNode(t, name, addr)
}

// joinNode puts a proxy before a running node.
func joinNode(t testing.TB, name, addr string) *node {
	t.Helper()
	n := &node{name: name, url: "http://" + addr}
	n.proxy = rpcfault.New(n.url)
	n.proxied = testenv.Serve(t, n.proxy)
	var err error
	if n.client, err = ethclient.DialContext(t.Context(), n.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.client.Close)
	id, err := n.client.ChainID(t.Context())
	must(t, err)
	n.chainID = id.Uint64()
	return n
}

// deploy deploys a KMS by transactions.
func (n *node) deploy(t testing.TB) *testchain.KMS {
	t.Helper()
	k, err := testchain.Deploy(t.Context(), n.client, testchain.DeployOptions{})
	must(t, err)
	return k
}

// implementationSlot is the implementation's slot of a proxy (ERC-1967).
var implementationSlot = common.HexToHash("0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc")

// running returns the implementation of a proxy and the hash of its code.
func (n *node) running(ctx context.Context, proxy common.Address) (common.Address, common.Hash, error) {
	word, err := n.client.StorageAt(ctx, proxy, implementationSlot, nil)
	if err != nil {
		return common.Address{}, common.Hash{}, err
	}
	code, err := n.client.CodeAt(ctx, common.BytesToAddress(word), nil)
	return common.BytesToAddress(word), crypto.Keccak256Hash(code), err
}

// api is the fake API, in a separate process.
type api struct{ url, control string }

func startAPI(t testing.TB, args ...string) *api {
	t.Helper()
	_, url := start(t, `listening on (http://\S+)`, filepath.Join(bin, "fakeapi"), args, nil, nil)
	return &api{url, strings.TrimSuffix(url, "/api/v1") + "/control"}
}

// put changes the API's claim.
func (a *api) put(c fakeapi.Chain) error {
	_, err := a.do(http.MethodPut, "/chain", c)
	return wrap("changing the API's world", err)
}

// list changes the API's list of KMS.
func (a *api) list(all []fakeapi.KMS) error {
	_, err := a.do(http.MethodPut, "/kms", all)
	return wrap("changing the API's list of KMS", err)
}

// fail sets a fault of the API until it is cleared.
func (a *api) fail(f fakeapi.Fault) error {
	_, err := a.do(http.MethodPut, "/fault", f)
	return wrap("making the API fail", err)
}

func (a *api) heal() error {
	_, err := a.do(http.MethodDelete, "/fault", nil)
	return wrap("healing the API", err)
}

// requests returns the number of requests that the API got.
func (a *api) requests() (int, error) {
	body, err := a.do(http.MethodGet, "/requests", nil)
	if err != nil {
		return 0, wrap("counting the API's requests", err)
	}
	return strconv.Atoi(strings.TrimSpace(body))
}

func (a *api) do(method, path string, v any) (string, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(method, a.control+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, answer)
	}
	return string(answer), err
}

// claim is a chain as the API shows it, with one contract.
func (n *node) claim(contract common.Address, devices []fakeapi.Device, images []fakeapi.OSImage) fakeapi.Chain {
	return fakeapi.Chain{ChainName: "base", ChainID: n.chainID, Contracts: []fakeapi.Contract{{
		Address: contract.Hex(), ChainID: n.chainID, ChainName: "base", Devices: devices, OSImages: images,
	}}}
}
