package observe_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// failing is a reader that replaces the result of the n-th reading.
type failing struct {
	observe.Reader
	n      int
	become func(*ethrpc.State) (*ethrpc.State, error)
}

func (f *failing) Read(ctx context.Context, at *ethrpc.Pinned, queries []ethrpc.Query, opt ethrpc.ReadOptions) (*ethrpc.State, error) {
	s, err := f.Reader.Read(ctx, at, queries, opt)
	if f.n--; f.n == 0 && err == nil {
		return f.become(s)
	}
	return s, err
}

// aside is a reader that replaces the result of reading the newest block.
type aside struct {
	observe.Reader
	become func(*ethrpc.Reading)
}

func (a aside) Read(ctx context.Context, at *ethrpc.Pinned, queries []ethrpc.Query, opt ethrpc.ReadOptions) (*ethrpc.State, error) {
	s, err := a.Reader.Read(ctx, at, queries, opt)
	if err == nil && opt.NoCache {
		for i := range s.Readings {
			a.become(&s.Readings[i])
		}
	}
	return s, err
}

// controlled is a reader that replaces the control of contracts.
type controlled struct {
	observe.Reader
	by ethrpc.Control
}

func (c controlled) Read(ctx context.Context, at *ethrpc.Pinned, queries []ethrpc.Query, opt ethrpc.ReadOptions) (*ethrpc.State, error) {
	s, err := c.Reader.Read(ctx, at, queries, opt)
	if err == nil {
		for i := range s.Readings {
			s.Readings[i].Control = c.by
		}
	}
	return s, err
}

// unruled is a control without any readable field.
var unruled = ethrpc.Control{
	Owner: ethrpc.Field[common.Address]{Err: errPower}, PendingOwner: ethrpc.Field[common.Address]{Err: errPower},
	Implementation: ethrpc.Field[common.Address]{Err: errPower}, GatewayAppID: ethrpc.Field[string]{Err: errPower},
	K256Pubkey: ethrpc.Field[[]byte]{Err: errPower}, CAPubkey: ethrpc.Field[[]byte]{Err: errPower}, CodeErr: errPower,
}

var errPower = errors.New("the power is out")

func powerless(*ethrpc.State) (*ethrpc.State, error) { return nil, errPower }

// stuck fails to reset events.
type stuck struct{ observe.Events }

func (stuck) Reset(common.Address) error { return errors.New("the disk is full") }

// lister is a list of KMS.
type lister func() (*kmsapi.List, error)

func (l lister) List(context.Context, kmsapi.Filter) (*kmsapi.List, error) { return l() }

// apart is an API that refuses the on-chain detail.
type apart int

func (status apart) OnChainDetail(context.Context, string) (*kmsapi.OnChainDetail, error) {
	return nil, fmt.Errorf("asking for its on-chain detail: %w", &kmsapi.StatusError{Status: int(status)})
}

func TestWhatSeldomHappens(t *testing.T) {
	read := func(n int, become func(*ethrpc.State) (*ethrpc.State, error)) func(*world) {
		return func(w *world) {
			w.more = func(o *observe.Chain) { o.Reader = &failing{o.Reader, n, become} }
		}
	}
	// Two providers must agree, and the second one goes through a proxy of its own.
	two := func(fault rpcfault.Fault) func(*world) {
		return func(w *world) {
			other := rpcfault.New(w.chain.URL())
			other.Set(fault)
			w.verify, w.intent.Agreement, w.rpc = ethrpc.VerifyOff, 2, append(w.rpc, w.serve(other))
		}
	}
	for _, tt := range []struct {
		sentence string
		change   func(*world)
		verdict  audit.Verdict
		kinds    string
		says     string // in the report
	}{
		{"the chain's reader itself fails", read(1, powerless), audit.Unknown, "", "the power is out"},
		{"what events name cannot be asked for", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, powerless)(w)
		}, audit.Unknown, "", "the power is out"},
		{"what events name cannot be asked for, and nothing is proven", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
			read(2, powerless)(w)
		}, audit.Unknown, "", "1 of 5 entries: the contract's answer could not be read"},
		{"what events name is answered with nothing that can be read", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Readings[0].Devices[hidden] = ethrpc.Answer{Err: errPower}
				return s, nil
			})(w)
		}, audit.Unknown, "", "1 of 5 entries: the contract's answer could not be read"},
		{"the API's answer is about another chain, and lists a contract that is not configured", func(w *world) {
			w.intent.CrossChecks = true
			w.want(audit.Policy{})
			w.api.Update("test", func(c *fakeapi.Chain) {
				c.ChainID, c.Contracts[0].Address = 1, "0x00000000000000000000000000000000000000AA"
			})
		}, audit.Unknown, "chain_mismatch chain_mismatch", ""},
		{"a contract's row is of another chain, and the list of KMS lacks it", func(w *world) {
			w.intent.CrossChecks = true
			w.contract(func(c *fakeapi.Contract) { c.ChainID = 1 })
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
		}, audit.Unknown, "chain_mismatch", ""},
		{"the API does not tell of a discovered chain that its list does not name", func(w *world) {
			w.intent.CrossChecks = true
			w.intent.Discover = true
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
			w.opt.Claims = apart(500)
		}, audit.Unknown, "", `"message":"asking for its on-chain detail: the API answered 500`},
		{"what is accepted is of a contract that only the list of KMS names, which fails", func(w *world) {
			w.intent.CrossChecks = true
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.List})
			w.accept(audit.Exception{Contract: common.Address{0xbb}, Kind: audit.KMSContractMismatch})
		}, audit.Unknown, "", "the API's list of KMS could not be read"},
		{"what is accepted is of control, and of storage, neither of which could be looked at while something else differs", func(w *world) {
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
			w.intent.Baselines = true
			w.accept(audit.Exception{Kind: audit.OwnerChanged})
			w.accept(audit.Exception{Kind: audit.StorageUnaccounted})
			w.more = func(o *observe.Chain) { o.Reader = controlled{o.Reader, unruled} }
		}, audit.Drift, "claim_allowed_chain_denied", "the owner could not be read"},
		{"what is accepted cannot be read, while something else differs", func(w *world) {
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
			w.accept(audit.Exception{List: audit.Device, ID: dev1.Hex(), Kind: audit.ClaimAllowedChainDenied})
		}, audit.Drift, "claim_allowed_chain_denied claim_unknown", ""},
		{"what events name is answered by one provider of two", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Failed = append(s.Failed, ethrpc.ProviderError{Provider: "second", Err: errPower})
				return s, nil
			})(w)
		}, audit.Drift, "unlisted_chain_allowed", "the power is out"},
		{"events that were left out cannot be read anew", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_getLogs" && a.Error == nil {
					a.Result = []byte("[]")
				}
			}})
			w.events = func(e observe.Events) observe.Events { return stuck{e} }
		}, audit.Unknown, "", "the disk is full"},
		{"proof is required, and not all that is stored is accounted for", func(w *world) {
			w.verify = ethrpc.VerifyRequired
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
		}, audit.Unknown, "", "verify is required, but it is not proven that all of the contract's storage"},
		{"an id has two names", func(w *world) {
			other := "prod2"
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: dev1.Hex(), NodeName: &other, Allowed: &yes})
			})
		}, audit.Consistent, "", `"name":"prod1, prod2"`},
		{"two providers agree", two(rpcfault.Fault{}), audit.Consistent, "", `"assurance":"agreed"`},
		{"two providers do not", two(rpcfault.Result("true", `"0x`+strings.Repeat("00", 31)+`01"`)), audit.Unknown, "provider_disagreement", "second"},
		{"who controls the contract cannot be read, and so is not compared with the list of KMS", func(w *world) {
			w.intent.CrossChecks, w.intent.Baselines = true, true
			w.more = func(o *observe.Chain) { o.Reader = controlled{o.Reader, unruled} }
		}, audit.Unknown, "", "the owner could not be read: the power is out"},
		{"the contract is no proxy, and has the code that is wanted", func(w *world) {
			w.want(audit.Policy{CodeHash: &dev1})
			w.more = func(o *observe.Chain) {
				o.Reader = controlled{o.Reader, ethrpc.Control{Code: footprint.Code{Complete: true, Accounts: []footprint.Account{
					{Address: w.kms.Address().Hex(), Role: footprint.Implementation, CodeHash: dev1.Hex()}}}}}
			}
		}, audit.Consistent, "", `"code_hash":"` + dev1.Hex()},
		{"nothing is deployed at the pinned block, and the newest cannot be asked", func(w *world) {
			w.tags, w.intent.PendingMax = "latest-2", time.Hour
			late, err := w.chain.Deploy(context.Background(), testchain.DeployOptions{})
			must(w.t, err)
			w.contract(func(c *fakeapi.Contract) { c.Address, c.Devices, c.OSImages = late.Address().Hex(), nil, nil })
			w.more = func(o *observe.Chain) { o.Events, o.Reader = nil, &failing{o.Reader, 3, powerless} }
		}, audit.Unknown, "", "nothing is deployed at the pinned block, and the newest block could not be read"},
		{"nothing is deployed at the pinned block, as is proven, and that it is at the newest is not", func(w *world) {
			w.tags, w.intent.PendingMax = "latest-2", time.Hour
			late, err := w.chain.Deploy(context.Background(), testchain.DeployOptions{})
			must(w.t, err)
			w.contract(func(c *fakeapi.Contract) { c.Address = late.Address().Hex() })
			w.more = func(o *observe.Chain) { o.Reader = aside{o.Reader, func(r *ethrpc.Reading) { r.Proven = false }} }
		}, audit.Unknown, "", "nothing is deployed at the pinned block, and the newest block could not be read"},
		{"the difference is proven, and that the newest block agrees with the API is not", func(w *world) {
			w.tags, w.intent.PendingMax = "latest-1", time.Hour
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
			w.more = func(o *observe.Chain) {
				o.Reader = aside{o.Reader, func(r *ethrpc.Reading) { r.Proven = false }}
			}
		}, audit.Unknown, "", "a difference was seen but could not be confirmed"},
		{"the list of KMS names a contract of a discovered chain that has none", func(w *world) {
			w.intent.CrossChecks = true
			w.intent.Discover = true
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
				*k = (*k)[1:2]
				(*k)[0].ChainID = chainID
			})
			w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
		}, audit.Drift, "kms_contract_mismatch", ""},
		{"the list of KMS hits a bug", func(w *world) {
			w.intent.CrossChecks = true
			w.opt.Listing = lister(func() (*kmsapi.List, error) { panic("no such page") })
		}, audit.Unknown, "", "a bug in kms-auditor: no such page"},
		{"the policy's difference is accepted, and the API's silence about the id is not", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = nil })
			w.want(audit.Policy{Devices: []common.Hash{dev1, dev2}})
			w.accept(audit.Exception{List: audit.Device, ID: dev2.Hex(), Kind: audit.PolicyAllowedDenied})
		}, audit.Unknown, "claim_unknown", ""},
		{"one of two faults is accepted", func(w *world) {
			w.backdoor()
			w.want(audit.Policy{Owner: &common.Address{1}})
			w.accept(audit.Exception{Kind: audit.StorageUnaccounted})
		}, audit.Drift, "owner_changed", ""},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := provenWorld(t)
			tt.change(w)
			r := w.audit()
			if r.Verdict != tt.verdict || kindsOf(r) != tt.kinds || !strings.Contains(text(t, r), tt.says) {
				t.Errorf("%s with %q, want %s with %q, and %q told\n%s", r.Verdict, kindsOf(r), tt.verdict, tt.kinds, tt.says, text(t, r))
			}
		})
	}
}

func TestWhatEventsDoNotTellIsAskedForAgain(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	asked := 0
	w.events = func(e observe.Events) observe.Events { return mute{e, &asked} }
	a := w.auditor()
	for i, tt := range []struct {
		after time.Duration
		times int
	}{{time.Hour, 1}, {time.Hour, 1}, {0, 2}} {
		observe.AnnotateAgain(t, tt.after)
		if a.says(audit.Consistent, ""); asked != tt.times {
			t.Errorf("asked %d times by audit %d, want %d", asked, i, tt.times)
		}
	}
}

// mute are events that never have all times and senders.
type mute struct {
	observe.Events
	asked *int
}

func (m mute) Annotate(context.Context, common.Address, []audit.ListChange) bool {
	*m.asked++
	return false
}

// A discovered chain that is not in the list of KMS is left out only if the API does not know it.
func TestWhichChainsAreLeftOut(t *testing.T) {
	for status, left := range map[int]bool{400: true, 404: true, 422: true, 401: false, 429: false, 500: false} {
		w := newWorld(t)
		w.intent.CrossChecks = true
		w.intent.Discover = true
		w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
		w.opt.Claims = apart(status)
		if r := w.audit(); (len(r.Chains) == 0) != left || r.Verdict != audit.Unknown {
			t.Errorf("HTTP %d: %s of %d chains", status, r.Verdict, len(r.Chains))
		}
	}
}
