//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// l1Daemon is a daemon that audits an L2 with its L1. The provider of L2 can be exchanged.
type l1Daemon struct {
	*daemon
	*l1Rollup
	served atomic.Pointer[rpcfault.Proxy]
}

// stands waits for an audit and compares its report: the verdict, the kinds of the findings with unconfirmed ones in brackets, the
// newest blocks that L1 holds as proposed and as anchored, and the trust of the audited block.
func (d *l1Daemon) stands(t testing.TB, want string) *audit.Chain {
	t.Helper()
	d.audit(t)
	c := &decodeReport(t, d.page(t, "/api/v1/report")).Chains[0]
	got := []string{c.Verdict.String()}
	for _, f := range c.Targets[0].Findings {
		kind := string(f.Kind)
		if f.State == audit.Still {
			kind = "(" + kind + ")"
		}
		got = append(got, kind)
	}
	slices.Sort(got[1:])
	for _, a := range []*audit.Anchored{c.Anchored, c.L1Anchored} {
		text := "-"
		if a != nil {
			text = fmt.Sprintf("%d %s", a.Number, a.Trust)
		}
		got = append(got, text)
	}
	if now := strings.Join(append(got, string(c.Block.Trust)), ", "); now != want {
		t.Fatalf("it stands at\n%s, want\n%s\n%+v\n%+v", now, want, c.Targets[0].Findings, c.Errors)
	}
	return c
}

// shows fails the test unless the page has the metrics, each given as a name without its prefix, labels and the value.
func (d *l1Daemon) shows(t testing.TB, want ...string) {
	t.Helper()
	page := d.page(t, "/metrics")
	for _, line := range want {
		if !strings.Contains(page, "\nkms_auditor_"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			has := slices.DeleteFunc(strings.Split(page, "\n"), func(l string) bool { return !strings.HasPrefix(l, "kms_auditor_"+name) })
			t.Errorf("/metrics lacks %s:\n%s", line, strings.Join(has, "\n"))
		}
	}
}

// made returns the metric of the time of a block of L2's node.
func (d *l1Daemon) made(t testing.TB, trust string, block uint64) string {
	t.Helper()
	at := 0.0
	if block > 0 {
		at = float64(d.l2.header(t, int64(block)).Time)
	}
	return fmt.Sprintf(`anchored_block_timestamp_seconds{chain="base",trust="%s"} %v`, trust, at)
}

// TestL1ContradictsAnInventedChain checks that a finding that ended on an invented chain opens again, until the provider is right
// and L1 confirms that.
func TestL1ContradictsAnInventedChain(t *testing.T) {
	t.Parallel()
	w := newL1World(t, "geth", "anvil")
	d := &l1Daemon{l1Rollup: w.deployL1(t, w.l2.header(t, -1).Number.Uint64())}
	d.served.Store(w.l2.proxy)
	d.settings.Chains[0].Providers[0].URL = testenv.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { d.served.Load().ServeHTTP(rw, r) }))
	d.settings.Schedule = "@every 1s"
	d.settings.Web = &webSettings{Listen: []string{"127.0.0.1:0"}}
	w.mine(t, 7) // all but the newest are safe
	w.finalize(t)

	d.daemon = startDaemon(t, d.settings)
	d.stands(t, "consistent, -, -, providers")
	d.shows(t, d.made(t, "l1_proposed", 0), d.made(t, "l1_anchored", 0))
	first := d.claimAll(t, d.start)
	audited := d.stands(t, fmt.Sprintf("consistent, %d l1_proposed, -, l1_proposed", first-1)).Block.Number
	d.shows(t, d.made(t, "l1_proposed", audited), d.made(t, "l1_anchored", 0))
	inTurn(won, anchors)(t, d.l1Rollup)
	w.finalize(t)
	held := fmt.Sprintf("%d l1_anchored, %[1]d l1_anchored", audited)
	d.stands(t, "consistent, "+held+", l1_anchored")
	d.shows(t, d.made(t, "l1_proposed", audited), d.made(t, "l1_anchored", audited))

	must(t, w.kms.AllowDevice(t.Context(), w.other))
	w.mine(t, 1)
	wrong := d.stands(t, "drift, claim_denied_chain_allowed, "+held+", providers").Block.Number

	// An invented chain has the same contract at the same address, and refuses the device.
	invented := startEarly(t, "anvil")
	fake := invented.deploy(t)
	must(t, fake.AllowDevice(t.Context(), w.device))
	for invented.header(t, -1).Number.Uint64() < first+9 {
		must(t, fake.AllowDevice(t.Context(), w.device))
	}
	if fake.Address() != w.kms.Address() {
		t.Fatalf("the invented contract is at %s, not at %s", fake.Address(), w.kms.Address())
	}
	lines := len(d.logged())
	d.served.Store(invented.proxy)
	lie := d.stands(t, "consistent, "+held+", providers").Block // not detected yet
	d.await(t, lines, `"event":"finding_resolved"`, "claim_denied_chain_allowed")
	lines = len(d.logged())
	for w.l2.header(t, -1).Number.Uint64() < first+9 {
		w.mine(t, 1)
	}
	if truly := w.l2.header(t, int64(lie.Number)).Hash().Hex(); lie.Hash == truly || lie.Number != first+8 {
		t.Fatalf("block %d, %s, is not invented", lie.Number, lie.Hash)
	}
	second := d.claimAll(t, first) // the invented chain has as many blocks
	contradicted := "unknown, (claim_denied_chain_allowed), block_contradicted, " + held + ", providers"
	c := d.stands(t, contradicted)
	said := fmt.Sprint(c.Targets[0].Findings)
	for _, want := range []string{fmt.Sprintf("it was resolved at block %d, which L1 does not confirm", lie.Number), "is not the one whose output root L1 holds (l1_proposed: 0x"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	for _, kind := range []string{"claim_denied_chain_allowed", "block_contradicted"} {
		d.await(t, lines, `"event":"finding_opened"`, kind)
		d.shows(t, fmt.Sprintf(`findings{chain="base",contract="%s",kind="%s",severity="critical"} 1`, w.kms.Address(), kind))
	}

	if exit := d.end(t, syscall.SIGTERM); exit != 0 {
		t.Errorf("the daemon exits with %d", exit)
	}
	d.daemon = startDaemon(t, d.settings)
	d.stands(t, contradicted)
	w.mine(t, 2) // beyond what L1 holds
	d.served.Store(w.l2.proxy)
	held = fmt.Sprintf("%d l1_proposed, %d l1_anchored", wrong, audited) // by the headers that lead there
	d.stands(t, "drift, block_contradicted, claim_denied_chain_allowed, "+held+", providers")
	must(t, w.kms.RemoveDevice(t.Context(), w.other))
	w.mine(t, 1)
	d.stands(t, "unknown, (claim_denied_chain_allowed), block_contradicted, "+held+", providers")
	third := d.claimAll(t, second)
	d.stands(t, fmt.Sprintf("consistent, %d l1_proposed, %d l1_anchored, l1_proposed", third-1, audited))
	d.shows(t, d.made(t, "l1_proposed", third-1), d.made(t, "l1_anchored", audited))
	for _, kind := range []string{"claim_denied_chain_allowed", "block_contradicted"} {
		d.await(t, 0, `"event":"finding_resolved"`, kind)
	}
	if all := strings.Join(d.logged(), "\n"); strings.Contains(all, `"event":"finding_opened"`) || strings.Contains(all, l1Key) {
		t.Errorf("the second process opens findings, or shows the key:\n%s", all)
	}
}

// finds audits and compares the kinds of the findings.
func (r *l1Rollup) finds(t testing.TB, exit int, kinds ...audit.Kind) *audit.Chain {
	t.Helper()
	c, _ := r.auditOnce(t, r.settings, exit)
	var got []audit.Kind
	for _, f := range c.Targets[0].Findings {
		got = append(got, f.Kind)
	}
	if !slices.Equal(got, kinds) {
		t.Fatalf("there are the findings %s, want %s\n%+v", got, kinds, c)
	}
	return c
}

// TestBlockContradictedEnds has a block far ahead of the true chain, which a later block contradicts and which is then forgotten. It
// also has a true block that a false game contradicts, and that the refuting game confirms again.
func TestBlockContradictedEnds(t *testing.T) {
	t.Parallel()
	w := newL1World(t, "anvil", "geth")
	r := w.deployL1(t, w.l2.header(t, -1).Number.Uint64())
	first := r.claimAll(t, r.start)
	w.l2.settle(t)
	r.finds(t, 0)
	invented := testenv.Start(t, testchain.Options{ChainID: w.l2.chainID})
	fake, err := invented.Chain.Deploy(t.Context(), testchain.DeployOptions{})
	must(t, err)
	must(t, fake.AllowDevice(t.Context(), w.device))
	for range 30 {
		invented.Chain.Commit()
	}
	tip, err := invented.Chain.Client().HeaderByNumber(t.Context(), nil)
	must(t, err)
	lying := r.settings
	lying.Chains = slices.Clone(lying.Chains)
	lying.Chains[0].Providers = []providerSettings{{Name: "p1", URL: invented.URL}}
	if exit, out, errs := runAuditor(t, "audit", "--once", "-c", writeConfig(t, lying)); exit != 0 {
		t.Fatalf("exit code %d\n%s%s", exit, out, errs)
	}
	r.finds(t, 3, audit.ChainWentBack)
	time.Sleep(time.Until(time.Unix(int64(tip.Time), 0))) // one block each second
	w.mine(t, 2)
	w.l2.settle(t)
	r.finds(t, 3, audit.ChainWentBack)
	second := r.claimAll(t, first)
	w.l2.settle(t)
	r.finds(t, 3, audit.BlockContradicted)
	w.mine(t, 1)
	w.l2.settle(t)
	r.finds(t, 3, audit.BlockContradicted) // L1 does not hold a newer audited block yet
	second = r.claimAll(t, second)
	w.l2.settle(t)
	if c := r.finds(t, 0); c.Block.Trust != audit.TrustL1Proposed {
		t.Errorf("%+v", c)
	}

	w.mine(t, 3)
	w.l2.settle(t)
	r.finds(t, 0)
	p := r.proposal(t, second, second+3)
	p.Parent = r.last()
	truth := p
	p.Claim, p.Roots = common.Hash{}, []common.Hash{{31: 1}}
	r.propose(t, p)
	w.finalize(t)
	r.finds(t, 3, audit.BlockContradicted)
	gameSet(1, 1, 1)(t, r)
	w.finalize(t)
	r.finds(t, 3, audit.BlockContradicted)
	r.propose(t, truth)
	w.finalize(t)
	if c := r.finds(t, 0); c.Block.Number != second+3 || c.Block.Trust != audit.TrustL1Proposed {
		t.Errorf("%+v", c)
	}
}
