//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// takeovers are changes of the control over a contract, and how to undo them.
var takeovers = []struct {
	sentence, kind string
	only           string // the only node that can do this; both if empty
	before         act    // before the daemon starts; optional
	offer          act    // comes first and is shown without being a finding; optional
	do, undo       act
}{
	{
		sentence: "another owner accepts the contract", kind: "owner_changed",
		offer: offer(heir),
		do: func(ctx context.Context, s *stage) error {
			return errors.Join(offer(heir)(ctx, s), s.accepts(ctx, "heir"))
		},
		undo: func(ctx context.Context, s *stage) error {
			_, err := s.kms.As(testchain.Key("heir")).Send(ctx, "transferOwnership", owner)
			return errors.Join(err, s.accepts(ctx, "owner"))
		},
	},
	{
		sentence: "the contract is upgraded", kind: "implementation_changed",
		do: func(ctx context.Context, s *stage) error {
			_, err := s.kms.Upgrade(ctx, testchain.Backdoor)
			return err
		},
		undo: func(ctx context.Context, s *stage) error {
			_, err := s.kms.Send(ctx, "upgradeToAndCall", s.runs, []byte{})
			return err
		},
	},
	{
		sentence: "a measurement is allowed", kind: "measurements_changed",
		do: send("addKmsAggregatedMr", common.Hash{1}), undo: send("removeKmsAggregatedMr", common.Hash{1}),
	},
	{
		sentence: "the KMS has other public keys", kind: "kms_keys_changed",
		do: publicKeys("0x03"+strings.Repeat("a8", 32), caPubkey), undo: publicKeys(k256Pubkey, caPubkey),
	},
	{
		sentence: "another gateway is named", kind: "gateway_changed",
		do: send("setGatewayAppId", strings.Repeat("e", len(gatewayAppID))), undo: send("setGatewayAppId", gatewayAppID),
	},
	{
		sentence: "apps get another implementation", kind: "app_implementation_changed",
		before: send("setAppImplementation", owner), do: send("setAppImplementation", heir), undo: send("setAppImplementation", owner),
	},
	{
		sentence: "other code is at the implementation's address", kind: "code_changed", only: "anvil",
		do: func(ctx context.Context, s *stage) error {
			return s.recode(ctx, func(code []byte) []byte { return append(code, 0) })
		},
		undo: func(ctx context.Context, s *stage) error {
			return s.recode(ctx, func(code []byte) []byte { return code[:len(code)-1] })
		},
	},
}

// send sends a transaction of the owner.
func send(method string, args ...any) act {
	return func(ctx context.Context, s *stage) error {
		_, err := s.kms.Send(ctx, method, args...)
		return err
	}
}

// publicKeys sets the contract's kmsInfo().
func publicKeys(k256, ca string) act {
	return send("setKmsInfo", struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }{common.FromHex(k256), common.FromHex(ca), []byte("quote"), nil})
}

// accepts accepts the contract's ownership with the pending owner.
func (s *stage) accepts(ctx context.Context, name string) error {
	_, err := s.kms.As(testchain.Key(name)).Send(ctx, "acceptOwnership")
	return err
}

// recode replaces the implementation's code in place, which no contract can do.
func (s *stage) recode(ctx context.Context, change func([]byte) []byte) error {
	code, err := s.node.client.CodeAt(ctx, s.runs, nil)
	if err != nil {
		return err
	}
	return errors.Join(
		s.node.client.Client().CallContext(ctx, nil, "anvil_setCode", s.runs, hexutil.Bytes(change(code))),
		s.node.client.Client().CallContext(ctx, nil, "anvil_mine", 1)) // a block with that in its state root
}

func TestTakeovers(t *testing.T) {
	t.Parallel()
	for name := range nodes {
		for _, over := range takeovers {
			if over.only != "" && over.only != name {
				continue
			}
			t.Run(name+" "+over.sentence, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, name)
				must(t, testchain.Fund(t.Context(), s.node.client, heir))
				if over.before != nil {
					must(t, over.before(t.Context(), s))
				}
				must(t, s.api.put(s.truth()))
				c := s.node.settings(s.api)
				c.Schedule, c.API.APIKeyFile = "@every 1s", s.keyFile
				c.Web = &webSettings{Listen: []string{"127.0.0.1:0"}}
				c.State = filepath.Join(t.TempDir(), "state.db")

				d := startDaemon(t, c, s.env...)
				d.finds(t, "consistent")
				if over.offer != nil {
					must(t, over.offer(t.Context(), s))
					d.finds(t, "consistent")
					if target := d.target(t); target.Control.PendingOwner != heir.Hex() || target.Control.Owner != owner.Hex() || len(target.Findings) != 0 {
						t.Errorf("after the offer: %+v, findings %v", target.Control, target.Findings)
					}
				}
				must(t, over.do(t.Context(), s))
				d.finds(t, "drift")
				opened := d.only(t, over.kind)
				d.await(t, 0, `"event":"finding_opened"`, over.kind)
				d.end(t, syscall.SIGTERM)

				d = startDaemon(t, c, s.env...)
				d.finds(t, "drift")
				if still := d.only(t, over.kind); !still.FirstSeen.Equal(*opened.FirstSeen) {
					t.Errorf("first seen at %s, and after a restart at %s", opened.FirstSeen, still.FirstSeen)
				}
				must(t, over.undo(t.Context(), s))
				d.finds(t, "consistent")
				must(t, over.do(t.Context(), s))
				d.finds(t, "drift")
				d.finds(t, "drift") // so that the previous state is saved
				next := len(d.logged())
				s.baseline(t, c, "is asked to accept it")
				d.await(t, next, `"msg":"baseline accepted"`)
				d.finds(t, "consistent")
				d.end(t, syscall.SIGTERM)
				told := "finding_resolved K , finding_opened K , finding_resolved K "
				if got := strings.Join(story(t, d.logged()), ", "); got != strings.ReplaceAll(told, "K", over.kind) {
					t.Errorf("after the restart the log has: %s\nwant: %s", got, told)
				}

				kept := func(_ *stage, to *settings) { to.State = c.State }
				must(t, over.undo(t.Context(), s))
				target, text := s.finds(t, "what was there before, once the other is accepted", "drift "+wholly+" "+over.kind, kept)
				if !target.Baseline.Accepted || !strings.Contains(text, "compared with the baseline, accepted at ") {
					t.Errorf("the report does not show that the baseline was accepted:\n%s", text)
				}
				s.baseline(t, c, "accepted\n")
				s.finds(t, "once that is accepted", "consistent "+wholly, kept)
			})
		}
	}
}

// target returns the only target of the last report.
func (d *daemon) target(t *testing.T) audit.Target {
	t.Helper()
	r := decodeReport(t, d.page(t, "/api/v1/report"))
	if len(r.Chains) != 1 || len(r.Chains[0].Targets) != 1 {
		t.Fatalf("not one target: %+v", r)
	}
	return r.Chains[0].Targets[0]
}

// only returns the only finding of the last report, which must be of the kind.
func (d *daemon) only(t *testing.T, kind string) audit.Finding {
	t.Helper()
	findings := d.target(t).Findings
	if len(findings) != 1 || string(findings[0].Kind) != kind || findings[0].FirstSeen == nil {
		t.Fatalf("not the one finding %s, with its time: %+v", kind, findings)
	}
	return findings[0]
}

// baseline accepts who controls the contract.
func (s *stage) baseline(t *testing.T, c settings, want string) {
	t.Helper()
	exit, out, errs := runAuditorWith(t, s.env, "baseline", "accept", "-c", writeConfig(t, c))
	if exit != 0 || !strings.Contains(out, want) {
		t.Fatalf("baseline accept exits with %d\n%s%s", exit, out, errs)
	}
}
