package main

import (
	"cmp"
	"context"
	"crypto/sha3"
	"fmt"
	"math/big"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/runtime"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const (
	chainName = "base"
	chainID   = 8453
	blocks    = 70 // the finalized one is the last multiple of 32
)

// size is the number of contracts, and of entries and registered apps in each.
type size struct{ contracts, entries, apps int }

const (
	usualApps  = 20
	appsAtOnce = 100 // as many as one transaction's gas allows
)

func (s size) String() string {
	text := fmt.Sprintf("%dx%d", s.contracts, s.entries)
	if s.apps != usualApps {
		text += fmt.Sprintf("x%d", s.apps)
	}
	return text
}

func parseSize(text string) (s size, err error) {
	if n, _ := fmt.Sscanf(text, "%dx%dx%d", &s.contracts, &s.entries, &s.apps); n == 2 {
		s.apps = usualApps
	}
	if s.String() != text || min(s.contracts, s.entries, s.apps) < 1 {
		return s, fmt.Errorf("size %q is not CONTRACTSxENTRIES, such as 1x1000, or CONTRACTSxENTRIESxAPPS", text)
	}
	return s, nil
}

// world is a chain and two APIs: one is right, the other is wrong about some entries of each contract.
type world struct {
	size
	chain            *testchain.Chain
	rpc, truth, lies *meter
	contracts        []common.Address
	differences      []string // between chain and lies, in the contenders' format
}

// newWorld returns a world with Multicall3 at its usual address. A fifth of the entries are devices, the rest images; a tenth are denied.
func newWorld(s size, multicall []byte) (*world, error) {
	w := &world{size: s}
	code, _, _, err := runtime.Create(multicall, nil)
	if err != nil {
		return nil, fmt.Errorf("constructing Multicall3: %w", err)
	}
	options := testchain.Options{ChainID: chainID, Alloc: types.GenesisAlloc{
		common.BytesToAddress(hexutil.MustDecode("0xcA11bde05977b3631167028862bE2a173976CA11")): {Code: code},
	}}
	truth := fakeapi.Chain{ChainName: chainName, ChainID: chainID}
	lies := truth
	for c := range s.contracts {
		at := testchain.Address(fmt.Sprint("contract ", c))
		on := testchain.Preload{Address: at}
		right := fakeapi.Contract{Address: at.Hex(), ChainID: chainID, ChainName: chainName}
		wrong := right
		for i := range s.entries {
			id, allowed, lie := crypto.Keccak256Hash(at[:], big.NewInt(int64(i)).Bytes()), i%10 != 9, i == 0 || i == 3 || i == 9
			list := "os_image"
			if i%5 == 0 {
				list = "device"
			}
			claim(&right, list, id, allowed)
			claim(&wrong, list, id, allowed != lie)
			switch {
			case allowed && list == "device":
				on.Devices = append(on.Devices, id)
			case allowed:
				on.Images = append(on.Images, id)
			}
			if lie {
				w.differences = append(w.differences, difference(at.Hex(), list, id.Hex(), !allowed, allowed))
			}
		}
		options.Preload, w.contracts = append(options.Preload, on), append(w.contracts, at)
		truth.Contracts, lies.Contracts = append(truth.Contracts, right), append(lies.Contracts, wrong)
	}
	slices.Sort(w.differences)
	if w.chain, err = testchain.Start(options); err != nil {
		return nil, err
	}
	for _, at := range w.contracts {
		if err := furnish(context.Background(), w.chain.KMS(at), s.apps); err != nil {
			return nil, fmt.Errorf("setting up %s: %w", at, err)
		}
	}
	for range blocks {
		w.chain.Commit()
	}
	node, err := url.Parse(w.chain.URL())
	if err != nil {
		return nil, err
	}
	w.rpc = newMeter(&httputil.ReverseProxy{Transport: transport(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(node) }})
	w.truth, w.lies = newMeter(fakeapi.New(truth)), newMeter(fakeapi.New(lies))
	return w, nil
}

// furnish adds what every live contract has besides its lists: measurements, apps, and keys with a quote and an event log of 23 kB.
func furnish(ctx context.Context, kms *testchain.KMS, apps int) error {
	text := func(n int) []byte { return sha3.SumSHAKE256(kms.Address().Bytes(), n) }
	if _, err := kms.Upgrade(ctx, testchain.Backdoor); err != nil {
		return err
	}
	send := func(method string, args ...any) (err error) {
		_, err = kms.Send(ctx, method, args...)
		return err
	}
	err := send("setKmsInfo", struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }{text(64), text(91), text(3000), nil})
	for piece := range slices.Chunk(text(20_000), 2_500) {
		err = cmp.Or(err, send("appendEventlog", piece))
	}
	for i := range 3 {
		err = cmp.Or(err, send("addKmsAggregatedMr", crypto.Keccak256Hash([]byte{byte(i)})))
	}
	for i := 0; i < apps && err == nil; i += appsAtOnce {
		err = send("registerApps", big.NewInt(int64(i+1)<<32), big.NewInt(int64(min(appsAtOnce, apps-i))))
	}
	return err
}

func claim(c *fakeapi.Contract, list string, id common.Hash, allowed bool) {
	text := id.Hex()
	if list == "device" {
		c.Devices = append(c.Devices, fakeapi.Device{ID: text, NodeName: new("prod"), Allowed: &allowed})
	} else {
		c.OSImages = append(c.OSImages, fakeapi.OSImage{Name: "dstack", Version: "0.5", Hash: &text, Allowed: &allowed})
	}
}

func difference(contract, list, id string, claim, onChain bool) string {
	return fmt.Sprintf("%s %s %s %t %t", strings.ToLower(contract), list, strings.ToLower(id), claim, onChain)
}

func (w *world) close() {
	for _, m := range []*meter{w.rpc, w.truth, w.lies} {
		m.CloseClientConnections()
		m.Close()
	}
	_ = w.chain.Close()
}

// readMulticall returns viem's creation code of Multicall3.
func readMulticall(ctx context.Context) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "node", "-p", "require('./ts/node_modules/viem/_cjs/constants/contracts.js').multicall3Bytecode").Output()
	if err != nil {
		return nil, fmt.Errorf("reading viem's Multicall3: %w", err)
	}
	return hexutil.Decode(strings.TrimSpace(string(out)))
}
