package ethrpc_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// A Client's proof cache must not change what is proven: a new Client, and the witness alone, must give the same results.

// sameAsAnew reads with a client that has a proof cache, and compares the result with that of a new client and of the witness.
func sameAsAnew(t *testing.T, what string, c *ethrpc.Client, url string, queries ...ethrpc.Query) *result {
	t.Helper()
	req := request{queries: queries}
	s, err := look(t.Context(), c, req)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	req.Tags = []ethrpc.BlockTag{ethrpc.AtHash(s.at.Block.Hash)}
	anew, err := look(t.Context(), prover(t, ethrpc.VerifyRequired, 1, url), req)
	if err != nil {
		t.Fatalf("%s: a new client: %v", what, err)
	}
	offline, _, err := ethrpc.Prove(t.Context(), 1337, s.at.Block.Hash, *s.state.Witness(), queries, false)
	if err != nil {
		t.Fatalf("%s: the witness: %v", what, err)
	}
	for i, r := range s.state.Readings {
		now, new, alone := *r.Storage, *anew.state.Readings[i].Storage, offline.Readings[i]
		if !r.Proven || alone.Err != nil {
			t.Fatalf("%s: contract %d: proven %t, offline: %v", what, i, r.Proven, alone.Err)
		}
		if n := anew.state.Readings[i].Unaccounted; !slices.Equal(r.Unaccounted, n) || !slices.Equal(alone.Unaccounted, n) {
			t.Errorf("%s: contract %d: %v, %v and %v store more than is accounted for", what, i, r.Unaccounted, n, alone.Unaccounted)
		}
		if now != new || now != *alone.Storage {
			t.Errorf("%s: contract %d stores %+v according to the client with a cache, %+v to a new one, %+v to the witness", what, i, now, new, *alone.Storage)
		}
	}
	return s
}

func TestAHiddenImageStaysHiddenWhateverChanges(t *testing.T) {
	w := newWorld(t)
	hidden := common.Hash{31: 7}
	var images []common.Hash
	for i := range 300 {
		images = append(images, common.BigToHash(big.NewInt(int64(i+1000))))
	}
	if err := w.KMS.Seed(t.Context(), nil, append(images, hidden)); err != nil {
		t.Fatal(err)
	}
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	sameAsAnew(t, "all are asked for", c, w.URL, w.query(append(images, hidden)...))
	for i := range 20 {
		what := fmt.Sprintf("after %d changes", i)
		if s := sameAsAnew(t, what, c, w.URL, w.query(images...)); s.Storage.Complete {
			t.Fatalf("%s, what is hidden is not missed", what)
		}
		if err := w.KMS.RemoveImage(t.Context(), images[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// The contracts that follow return 0 for all calls but registeredApps(address). A transaction of two words stores the second
// word in the slot of the first.
var (
	registeredApps = fmt.Sprintf("60003560e01c63%x", crypto.Keccak256([]byte("registeredApps(address)"))[:4])

	// appsPerPointer reads the slot of the app's number; from 5000 on, it adds the word in slot 0 to that number.
	appsPerPointer = "60403614603b57" + registeredApps + "14601d57" + "5f5f5260205ff3" + "5b6004358061138810603057545f5260205ff3" + "5b5f5401545f5260205ff3" + "5b6020355f355500"
)

// appsPerHelper reads the slot of the app's number plus a helper's answer.
func appsPerHelper(helper common.Address) string {
	return "6040361460485760003560e01c" + registeredApps[len("60003560e01c"):] + "14601d57" + "5f5f5260205ff3" +
		fmt.Sprintf("5b60205f5f5f73%x5afa505f5160043501545f5260205ff3", helper) + "5b6020355f355500"
}

// appsWorld is a chain with such a contract, whose apps from..from+n are registered, and a way to write its storage.
func appsWorld(t *testing.T, code string, apps []common.Address) (w *world, at common.Address, set func(slot, word int64), opts *bind.TransactOpts) {
	t.Helper()
	at = common.Address{0: 0xcc}
	storage := map[common.Hash]common.Hash{}
	for _, app := range apps {
		storage[common.BytesToHash(app[:])] = common.Hash{31: 1}
	}
	w = &world{testenv.Start(t, testchain.Options{Alloc: types.GenesisAlloc{at: {Code: common.FromHex(code), Balance: new(big.Int), Storage: storage}}})}
	opts, err := bind.NewKeyedTransactorWithChainID(testchain.Key("owner"), big.NewInt(1337))
	if err != nil {
		t.Fatal(err)
	}
	node := w.Chain.Client()
	return w, at, func(slot, word int64) {
		t.Helper()
		input := append(common.BigToHash(big.NewInt(slot)).Bytes(), common.BigToHash(big.NewInt(word)).Bytes()...)
		if _, err := bind.NewBoundContract(at, abi.ABI{}, node, node, node).RawTransact(opts, input); err != nil {
			t.Fatal(err)
		}
		w.Chain.Commit()
	}, opts
}

func numbered(from, n int64) (apps []common.Address) {
	for i := range n {
		apps = append(apps, common.BigToAddress(big.NewInt(from+i)))
	}
	return apps
}

func TestWhatEarlierRunsRestOnIsProvenToo(t *testing.T) {
	helper := crypto.CreateAddress(testchain.Address("owner"), 0)
	apps := numbered(1000, 300)
	w, at, _, opts := appsWorld(t, appsPerHelper(helper), apps)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	query := ethrpc.Query{Contract: at, Apps: apps, Slots: []common.Hash{{}}}
	sameAsAnew(t, "the first time", c, w.URL, query)
	query.Devices = []common.Hash{device}
	sameAsAnew(t, "a device is asked about, and no new app", c, w.URL, query)
	node := w.Chain.Client()
	if _, err := bind.NewBoundContract(helper, abi.ABI{}, node, node, node).RawCreationTransact(opts, common.FromHex("6760645f5260205ff35f5260086018f3")); err != nil {
		t.Fatal(err)
	}
	w.Chain.Commit()
	if s := sameAsAnew(t, "the helper is deployed, and answers 100", c, w.URL, query); s.Storage.Complete {
		t.Error("100 apps in slots that no getter reads, but the storage counts as complete")
	}
}

func TestAGetterThatReadsMoreForSomeApps(t *testing.T) {
	apps := append(numbered(1000, 1000), numbered(10000, 300)...)
	w, at, set, _ := appsWorld(t, appsPerPointer, apps)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	query := ethrpc.Query{Contract: at, Apps: apps, Slots: []common.Hash{{}}}
	if s := sameAsAnew(t, "the first time", c, w.URL, query); !s.Storage.Complete {
		t.Error("all apps are asked about, but something is not explained")
	}
	set(0, 100)
	if s := sameAsAnew(t, "it looks elsewhere for some", c, w.URL, query); s.Storage.Complete {
		t.Error("300 apps in slots that no getter reads, but the storage counts as complete")
	}
}

// TestWhatIsCarriedOverIsTrue applies random changes to two contracts.
func TestWhatIsCarriedOverIsTrue(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random, ctx := rand.New(rand.NewPCG(seed, 0)), t.Context()
			w := &world{testenv.Start(t, testchain.Options{})}
			var contracts []*testchain.KMS
			for range 2 {
				k, err := w.Chain.Deploy(ctx, testchain.DeployOptions{Implementation: testchain.Backdoor})
				if err != nil {
					t.Fatal(err)
				}
				contracts = append(contracts, k)
			}
			devices, apps := make([]common.Hash, 12), numbered(1, 60)
			for i := range devices {
				devices[i] = common.Hash{31: byte(i + 1)}
			}
			registered := 0
			c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
			for step := range 25 {
				k, device := contracts[random.IntN(2)], devices[random.IntN(len(devices))]
				var what string
				var err error
				switch random.IntN(6) {
				case 0, 1:
					what, err = "a device is allowed", k.AllowDevice(ctx, device)
				case 2:
					what, err = "a device is removed", k.RemoveDevice(ctx, device)
				case 3:
					what, err = "a device is allowed, or removed, without an event", k.SneakDevice(ctx, device, random.IntN(2) == 0)
				case 4:
					if registered < len(apps) {
						what = "apps are registered"
						for _, app := range apps[registered : registered+5] {
							if _, err = k.Send(ctx, "registerApp", app); err != nil {
								break
							}
						}
						registered += 5
					}
				case 5:
					what = "a block is replaced by an empty one"
					_, err = w.Chain.Reorg(ctx, 1)
				}
				if err != nil {
					t.Fatalf("step %d: %s: %v", step, what, err)
				}
				var queries []ethrpc.Query
				for _, k := range contracts {
					asked := slices.Clone(apps[:random.IntN(len(apps))])
					random.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
					queries = append(queries, ethrpc.Query{
						Contract: k.Address(), Devices: devices[random.IntN(3):], Apps: asked, Slots: []common.Hash{{}}, Control: random.IntN(2) == 0,
					})
				}
				sameAsAnew(t, fmt.Sprintf("step %d: %s", step, what), c, w.URL, queries...)
			}
		})
	}
}
