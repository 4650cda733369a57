package audit_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

// rollup is a chain whose blocks L1 confirms, over many audits.
type rollup struct {
	t      *testing.T
	intent audit.Intent
	prior  audit.Prior
	read   map[string]time.Time // the blocks that were read, by how step spells them, and when
	out    audit.Outcome
}

func newRollup(t *testing.T) *rollup {
	return &rollup{t: t, read: map[string]time.Time{}, intent: audit.Intent{
		Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true, L1: &audit.L1Intent{Chain: "ethereum", ChainID: 1},
	}}
}

// step is one audit.
type step struct {
	at    string // since noon
	what  string // happens to the looks, as in play
	block string // that is read; one that begins with ! is invented. After a slash, that of the second look
	l1    string // of a block: -: nothing new, p: proposed, a: anchored, x: contradicted, f: the game fell. After =, the game. Empty: L1 is not read
	says  string // verdict, findings, and what is logged: opened (+), open (=), resolved (~)
	holds string // the newest block that L1 holds, the newest that it anchored, and the blocks that are remembered with what ended there
}

func hashOf(block string) common.Hash { return common.BytesToHash([]byte("block " + block)) }

func numberOf(t *testing.T, block string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(block, "!"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (r *rollup) confirmations(all string) (out []audit.Confirmation) {
	for _, word := range strings.Fields(strings.ReplaceAll(all, "-", "")) {
		block, game, _ := strings.Cut(word[1:], "=")
		c := audit.Confirmation{Hash: hashOf(block), Trust: map[byte]audit.Trust{'p': audit.TrustL1Proposed, 'a': audit.TrustL1Anchored, 'f': audit.TrustProviders, 'x': audit.TrustProviders}[word[0]]}
		switch word[0] {
		case 'x':
			c.Contradicted = "L1 holds another block than " + block
		default:
			c.Game, c.Time = common.BytesToAddress([]byte("game "+game)), r.read[block].Add(-15*time.Minute)
		}
		out = append(out, c)
	}
	return out
}

func (r *rollup) look(s step, i int) audit.Observation {
	last := func(all string) string { parts := strings.Split(all, " / "); return parts[min(i, len(parts)-1)] }
	since, err := time.ParseDuration(s.at)
	if err != nil {
		r.t.Fatal(err)
	}
	at, block := noon.Add(since+time.Duration(i)*15*time.Second), last(s.block)
	o := honest(0, at)
	o.Block = &audit.Block{Number: numberOf(r.t, block), Hash: hashOf(block).Hex(), Time: at.Add(-15 * time.Minute), Trust: audit.TrustProviders}
	if _, before := r.read[block]; !before {
		r.read[block] = at
	}
	return happen(o, last(s.what))
}

// audit audits once, as a new process would, and returns the result as text.
func (r *rollup) audit(s step) string {
	r.t.Helper()
	looks := audit.Looks{First: r.look(s, 0)}
	if s.l1 != "" {
		looks.First.L1 = &audit.L1Look{Confirmations: r.confirmations(s.l1)}
	}
	before := r.encoded(r.prior)
	if r.out = audit.Judge(r.intent, r.prior, looks); r.out.LookAgain {
		second := r.look(s, 1)
		looks.Second = &second
		r.out = audit.Judge(r.intent, r.prior, looks)
	}
	lawful(r.t, r.prior, r.out)
	if after := r.encoded(r.prior); after != before {
		r.t.Errorf("%s: the audit changed what it was given: %s, then %s", s.at, before, after)
	}
	next := r.encoded(r.out.Next)
	r.prior = audit.Prior{}
	if err := json.Unmarshal([]byte(next), &r.prior); err != nil || r.encoded(r.prior) != next {
		r.t.Errorf("%s: %v; what is remembered is %s, and %s when it is read again", s.at, err, next, r.encoded(r.prior))
	}
	says := said(r.out.Chain)
	for _, c := range r.out.Changes {
		says += " " + map[audit.ChangeType]string{audit.Opened: "+", audit.Open: "=", audit.Resolved: "~"}[c.Type] + string(c.Finding.Kind)
	}
	return says
}

func (r *rollup) encoded(p audit.Prior) string {
	b, err := json.Marshal(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// holds returns what is known about L1 after an audit.
func (r *rollup) holds() string {
	of := func(a *audit.Anchored) string {
		if a == nil {
			return "-"
		}
		return fmt.Sprint(a.Number)
	}
	out := of(r.out.Chain.Anchored) + " " + of(r.out.Chain.L1Anchored) + ":"
	for _, b := range r.prior.L1 {
		for name := range r.read {
			if hashOf(name) == b.Hash {
				out += " " + name + strings.Repeat("*", len(b.Ended))
			}
		}
	}
	return out
}

func TestL1(t *testing.T) {
	const drift, denied = "claim_denied_chain_allowed", "backdoor"
	required := func(trust audit.Trust) func(*audit.Intent) { return func(i *audit.Intent) { i.L1.Required = trust } }
	ended := []step{ // a finding ends at a block that is invented
		{"0h", denied, "100", "-", "drift " + drift + " +" + drift, "- -: 100"},
		{"1h", "honest", "!200", "p100", "consistent ~" + drift, "100 -: 100 !200*"},
	}
	for _, row := range []struct {
		sentence string
		intent   func(*audit.Intent) // nil: as it is
		audits   []step
	}{
		{"L1 confirms what was audited", nil, []step{
			{"0h", "honest", "100", "-", "consistent", "- -: 100"},
			{"1h", "honest", "200", "p100=1", "consistent", "100 -: 100 200"},
			{"2h", "honest", "300", "p200=1", "consistent", "200 -: 200 300"}, // one of each game is remembered
			{"3h", "honest", "400", "p300=2", "consistent", "300 -: 200 300 400"},
			{"4h", "honest", "500", "a200=1", "consistent", "300 200: 200 300 400 500"},
			{"5h", "honest", "600", "a300=2 p400=3 p500=3", "consistent", "500 300: 300 500 600"},
			{"6h", "honest", "600", "p600=3", "consistent", "600 300: 300 600"}, // that of this audit
		}},
		{"nothing is known while L1 is not read", nil, []step{
			{"0h", "honest", "100", "", "consistent", "- -: 100"}, {"1h", "honest", "100", "", "consistent", "- -: 100"}, {"2h", "chain down", "200", "p100", "unknown", "100 -: 100"},
		}},
		{"a block that was not audited is not confirmed", nil, []step{{"0h", "honest", "100", "p100 p101", "consistent", "100 -: 100"}}},
		{"a block that L1 must have proposed", required(audit.TrustL1Proposed), []step{
			{"0h", "honest", "100", "-", "unknown", ""}, {"1h", "honest", "200", "p100", "consistent", ""}, {"2h45m", "honest", "300", "-", "consistent", ""},
			{"2h46m", "honest", "300", "-", "unknown", ""}, {"3h", "honest", "400", "x300", "unknown block_contradicted +block_contradicted", ""},
			{"4h", "honest", "500", "p400", "unknown block_contradicted", ""}, {"5h", "honest", "600", "p500", "consistent ~block_contradicted", ""}, {"6h", "honest", "700", "f500 f400", "unknown", ""},
		}},
		{"the block that is read may be old", required(audit.TrustL1Proposed), []step{
			{"0h", "honest", "100", "-", "unknown", ""}, {"10h", "honest", "100", "p100", "consistent", ""}, {"11h", "honest", "200", "-", "unknown", ""},
		}},
		{"a block that L1 must have anchored", required(audit.TrustL1Anchored), []step{
			{"0h", "honest", "100", "p100", "unknown", ""}, {"168h", "honest", "200", "a100 p200", "consistent", ""}, {"191h45m", "honest", "300", "p300", "consistent", ""},
			{"191h46m", "honest", "400", "p400", "unknown", ""}, {"192h", denied, "500", "-", "drift " + drift + " +" + drift, ""},
		}},

		{"what ended at a block that L1 contradicts is open again, and stays so until L1 confirmed a block that was audited since", nil, append(slices.Clone(ended), []step{
			{"2h", "honest", "!300", "x!200", "unknown (" + drift + ") block_contradicted +block_contradicted +" + drift, "100 -: 100 !200 !300"},
			{"3h", "honest", "310", "", "unknown (" + drift + ") (block_contradicted)", "100 -: 100 !200 !300 310"},
			{"4h", "honest", "400", "p310", "consistent ~" + drift + " ~block_contradicted", "310 -: !300 310 400**"},
			{"5h", "honest", "500", "a400", "consistent", "400 400: !300 400 500"},
		}...)},
		{"a block that was audited before L1 contradicted another does not excuse that", nil, append(slices.Clone(ended), []step{
			{"90m", denied, "210", "-", "drift " + drift + " +" + drift, "100 -: 100 !200 210"},
			{"91m", "honest", "!220", "-", "consistent ~" + drift, "100 -: 100 !200 210 !220*"},
			{"3h", "honest", "!300", "x!220 p210", "unknown (" + drift + ") block_contradicted +block_contradicted +" + drift, "210 -: !200 210 !220 !300"},
			{"4h", "honest", "!400", "-", "unknown (" + drift + ") block_contradicted", "210 -: !200 210 !220 !300 !400"},
		}...)},
		{"a contradiction stands for longer than a day", nil, append(slices.Clone(ended), []step{
			{"2h", "honest", "!300", "x!200", "unknown (" + drift + ") block_contradicted +block_contradicted +" + drift, ""},
			{"50h", "honest", "!400", "-", "unknown (" + drift + ") block_contradicted =block_contradicted =" + drift, ""},
			{"51h", "honest", "!500", "-", "unknown (" + drift + ") block_contradicted", ""},
		}...)},
		{"what is found again as L1 contradicts its end is logged as opened", nil, append(slices.Clone(ended), []step{
			{"2h", denied, "300", "x!200", "drift " + drift + " block_contradicted +block_contradicted +" + drift, "100 -: 100 !200 300"},
		}...)},
		{"a contradiction that L1 takes back", nil, append(slices.Clone(ended), []step{
			{"2h", "honest", "300", "x!200", "unknown (" + drift + ") block_contradicted +block_contradicted +" + drift, ""},
			{"3h", "honest", "400", "p!200", "consistent ~" + drift + " ~block_contradicted", "200 -: !200 300 400**"},
		}...)},
		{"what ended is over once L1 anchored the block", nil, append(slices.Clone(ended), []step{
			{"2h", "honest", "300", "p!200=1", "consistent", "200 -: 100 !200* 300"}, {"3h", "honest", "400", "a!200=1", "consistent", "200 200: 100 !200 300 400"},
		}...)},
		{"what ended is open again when the game falls", nil, append(slices.Clone(ended), []step{
			{"2h", "honest", "300", "p!200", "consistent", "200 -: !200* 300"}, {"47h", "chain down", "400", "f!200", "unknown (" + drift + ") +" + drift, "- -:"},
		}...)},
		{"what ended is open again after a day without a word from L1, and stays so", nil, append(slices.Clone(ended), []step{
			{"3h", "honest", "!300", "-", "consistent", "100 -: 100 !200* !300"},
			{"25h", "honest", "!400", "-", "consistent", "100 -: 100 !200* !300 !400"},
			{"25h1m", "honest", "!500", "-", "unknown (" + drift + ") +" + drift, "100 -: 100 !200 !300 !400 !500"},
			{"26h", "honest", "!600", "-", "unknown (" + drift + ")", ""},
			{"26h", denied, "601", "-", "drift " + drift, ""},
			{"27h", "honest", "700", "p601", "consistent ~" + drift, ""},
		}...)},
		{"a block that stays the newest is waited for no longer", nil, append(slices.Clone(ended), []step{
			{"20h", "honest", "!200", "-", "consistent", "100 -: 100 !200*"}, {"26h", "honest", "!200", "-", "unknown (" + drift + ") +" + drift, "100 -: 100 !200"},
			{"27h", "honest", "!200", "-", "unknown (" + drift + ")", "100 -: 100 !200"},
		}...)},
		{"where audits are days apart, L1 was not asked in time: a finding ends, and nothing is logged twice", nil, append(slices.Clone(ended), []step{
			{"40h", "honest", "300", "-", "consistent", "100 -: 100 300*"}, {"80h", "honest", "400", "-", "consistent", "100 -: 100 400*"}, {"120h", denied, "500", "-", "drift " + drift + " +" + drift, "100 -: 100 500"},
		}...)},
		{"what the API's word alone ends does not wait for L1", nil, []step{
			{"0h", denied, "100", "-", "drift " + drift + " +" + drift, "- -: 100"}, {"1h", denied + " and API allows", "200", "-", "consistent ~" + drift, "- -: 100 200"},
		}},
		{"a finding is kept with the block at which it ended last", nil, append(slices.Clone(ended), []step{
			{"2h", denied, "!200", "-", "drift " + drift + " +" + drift, "100 -: 100 !200"}, {"3h", "honest", "300", "-", "consistent ~" + drift, "100 -: 100 !200 300*"},
			{"4h", denied, "400", "-", "drift " + drift + " +" + drift, "100 -: 100 !200 300 400"}, {"5h", denied, "500", "x!200", "drift " + drift + " block_contradicted +block_contradicted", "100 -: 100 !200 300 400 500"},
		}...)},
		{"what ends at the second look's block is kept with it", nil, []step{
			{"0h", denied, "100", "-", "drift " + drift + " +" + drift, "- -: 100"},
			{"1h", "hidden", "!200 / !210", "p100", "drift unlisted_chain_allowed +unlisted_chain_allowed ~" + drift, "100 -: 100 !200 !210*"},
			{"2h", "hidden", "300", "x!210", "drift (" + drift + ") unlisted_chain_allowed block_contradicted +block_contradicted +" + drift, "100 -: 100 !200 !210 300"},
		}},
		{"two blocks of one number", nil, []step{
			{"0h", "honest", "!100", "-", "consistent", "- -: !100"},
			{"1h", "honest", "100", "p100", "unknown block_contradicted +block_contradicted", "100 -: !100 100"},
			{"2h", "honest", "200", "p200", "consistent ~block_contradicted", "200 -: 200*"},
		}},
		{"a number that was invented is no bound, once L1 holds a block that was made later", nil, []step{
			{"0h", denied, "!18446744073709551615", "-", "drift " + drift + " +" + drift, ""},
			{"10m", "honest", "100", "-", "unknown (" + drift + ") chain_went_back +chain_went_back", ""},
			{"20m", "honest", "200", "p100", "unknown (" + drift + ") chain_went_back block_contradicted +block_contradicted", ""}, // it claims to be older than block 100
			{"2h", "honest", "300", "p200", "unknown (" + drift + ") block_contradicted ~chain_went_back", ""},                     // block 100 was made before the lie, block 200 was not
			{"3h", "honest", "400", "p300", "consistent ~" + drift + " ~block_contradicted", "300 -: 300 400**"},
		}},
		{"block 0 is as good as any", nil, []step{
			{"0h", "honest", "!0", "-", "consistent", "- -: !0"}, {"1h", "honest", "100", "p100 x!0", "unknown block_contradicted +block_contradicted", ""}, {"2h", "honest", "200", "p200", "consistent ~block_contradicted", "200 -: 200*"},
		}},
		{"the clock was set back", nil, []step{
			{"9000h", denied, "100", "-", "drift " + drift + " +" + drift, ""}, {"9001h", "honest", "!200", "-", "consistent ~" + drift, "- -: 100 !200*"},
			{"1h", "honest", "!300", "-", "consistent", "- -: 100 !200* !300"}, {"24h", "honest", "!400", "-", "consistent", ""}, {"26h", "honest", "!500", "-", "unknown (" + drift + ") +" + drift, ""},
		}},
		{"the clock was set back after a number was invented", nil, []step{
			{"9000h", denied, "!9223372036854775808", "-", "drift " + drift + " +" + drift, ""}, {"1h", "honest", "100", "-", "unknown (" + drift + ") chain_went_back +chain_went_back", ""},
			{"3h", "honest", "200", "p100", "unknown (" + drift + ") chain_went_back", ""}, {"4h", "honest", "300", "p200", "consistent ~chain_went_back ~" + drift, ""},
			{"5h", "honest", "400", "p300", "unknown block_contradicted +block_contradicted", ""}, {"6h", "honest", "500", "p400", "unknown block_contradicted", ""},
			{"7h", "honest", "600", "p500", "consistent ~block_contradicted", ""},
		}},
		{"while L1 contradicts a block, the API's key is not right because a contract says so", func(i *audit.Intent) { i.CrossChecks = true }, []step{
			{"0h", "other key", "100", "-", "drift kms_pubkey_mismatch +kms_pubkey_mismatch", ""}, {"1h", "other key and invented key", "!200", "x!200", "drift kms_keys_changed block_contradicted (kms_pubkey_mismatch) +kms_keys_changed +block_contradicted", ""},
		}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			r := newRollup(t)
			if row.intent != nil {
				row.intent(&r.intent)
			}
			for _, s := range row.audits {
				if got := r.audit(s); got != s.says || s.holds != "" && r.holds() != s.holds {
					t.Errorf("at %s, %s at block %s, L1 says %q:\n%s\n%s, want\n%s\n%s", s.at, s.what, s.block, s.l1, got, r.holds(), s.says, s.holds)
				}
			}
		})
	}
}

// TestL1RemembersNoMoreThanItMay checks the limit, and that dropped findings are open again.
func TestL1RemembersNoMoreThanItMay(t *testing.T) {
	r := newRollup(t)
	r.audit(step{"0h", "backdoor", "100", "-", "", ""})
	r.audit(step{"1h", "honest", "!200", "p100", "", ""})
	before := len(r.encoded(r.prior))
	for i := range 10 { // the API and the provider change their minds
		r.audit(step{fmt.Sprintf("%dm", 61+2*i), "backdoor and API denies and revoked", "!200", "-", "", ""})
		r.audit(step{fmt.Sprintf("%dm", 62+2*i), "honest", "!200", "-", "", ""})
	}
	if after := len(r.encoded(r.prior)); after > before+2000 {
		t.Errorf("%d bytes became %d", before, after)
	}
	for i := range 2100 {
		block := strconv.Itoa(1000 + i)
		at := noon.Add(2*time.Hour + time.Duration(i)*30*time.Second)
		r.read["!"+block] = at
		r.prior.L1 = append(r.prior.L1, audit.L1Block{Number: uint64(1000 + i), Hash: hashOf("!" + block), Time: at, At: at, Trust: audit.TrustProviders})
	}
	r.prior.Blocks[0].At = noon.Add(19 * time.Hour)
	if got, want := r.audit(step{"20h", "honest", "!4000", "-", "", ""}), "unknown (claim_denied_chain_allowed) +claim_denied_chain_allowed"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for i := range 2 {
		if got, want := r.audit(step{"20h", "honest", "!5" + strconv.Itoa(i), "-", "", ""}), "unknown (claim_denied_chain_allowed) chain_went_back"; !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if n := len(r.prior.L1); n > 2002 { // beside the newest that L1 confirmed, and the earliest that it did not
			t.Errorf("%d blocks are remembered", n)
		}
	}
}

// TestAFindingThatWasOverSaysWhere checks that the suffix is added only once.
func TestAFindingThatWasOverSaysWhere(t *testing.T) {
	r := newRollup(t)
	r.audit(step{"0h", "backdoor", "100", "-", "", ""})
	for day := range 4 {
		r.audit(step{fmt.Sprintf("%dh", 40*day+1), "honest", strconv.Itoa(200 + day), "-", "", ""})
	}
	r.audit(step{"200h", "chain down", "300", "-", "", ""})
	if said := r.prior.Open[0].Finding.Message; !strings.HasSuffix(said, "refused; it was resolved at block 203, which L1 does not confirm") || strings.Count(said, "resolved") != 1 {
		t.Error(said)
	}
}

// TestALiarAgainstL1: a finding is true until the last days. Whatever the only provider invents meanwhile, and
// whenever L1 can be read, the finding is never resolved for more than a day. In the end it is resolved within some hours.
func TestALiarAgainstL1(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		chance := func(percent int) bool { return rnd.IntN(100) < percent }
		r := newRollup(t)
		lies, reads, gives, numbers := rnd.IntN(101), rnd.IntN(101), rnd.IntN(101), 1+rnd.IntN(6) // percent, but for the last
		if seed%2 == 0 {
			lies, gives, numbers = 100, 0, 1+int(seed)/4%6
		}
		last := time.Duration(0) // that the finding was open
		for minutes, well := 0, false; minutes < 96*60; minutes += 10 + rnd.IntN(40) {
			at, number := time.Duration(minutes)*time.Minute, 10_000+30*minutes
			well = minutes > 72*60
			s := step{at: at.String(), what: "backdoor", block: strconv.Itoa(number), l1: "-"}
			switch {
			case well:
				s.what = "honest"
			case minutes > 60 && chance(lies):
				s.what = "honest"
				s.block = "!" + []string{strconv.Itoa(number), strconv.Itoa(number + rnd.IntN(500)), strconv.Itoa(number - rnd.IntN(5000)), "0", "9223372036854775808", "18446744073709551615"}[rnd.IntN(numbers)]
			}
			for block := range r.read {
				n := numberOf(t, block)
				switch age := noon.Add(at).Sub(r.read[block]); {
				case n > uint64(number-60*30) || age > 26*time.Hour:
				case block[0] != '!':
					s.l1 += fmt.Sprintf(" p%s=%d", block, n/18000)
				case chance(gives) || well:
					s.l1 += " x" + block
				}
			}
			if !well && !chance(reads) {
				s.l1 = ""
			}
			said := r.audit(s)
			if strings.Contains(said, "claim_denied_chain_allowed ") || strings.Contains(said, "claim_denied_chain_allowed)") || strings.HasSuffix(said, "claim_denied_chain_allowed") && !strings.Contains(said, "~claim_denied") {
				last = at
			}
			if !well && at-last > 25*time.Hour {
				t.Fatalf("seed %d (lies %d, reads %d, gives %d): at %s the finding is over since %s: %s", seed, lies, reads, gives, at, last, said)
			}
			for _, a := range []*audit.Anchored{r.out.Chain.Anchored, r.out.Chain.L1Anchored} {
				if a != nil && a.Hash != hashOf(strconv.FormatUint(a.Number, 10)).Hex() {
					t.Fatalf("seed %d: L1 is said to hold block %d, %s", seed, a.Number, a.Hash)
				}
			}
			if b := r.out.Chain.Block; b.Trust != audit.TrustProviders && b.Hash != hashOf(strconv.FormatUint(b.Number, 10)).Hex() {
				t.Fatalf("seed %d: an invented block is %s", seed, b.Trust)
			}
			if minutes > 90*60 && !strings.HasPrefix(said, "consistent") {
				t.Fatalf("seed %d (lies %d, reads %d, gives %d): at %s: %s, %s", seed, lies, reads, gives, at, said, r.holds())
			}
		}
	}
}

func init() {
	events["other key"] = func(o *audit.Observation) { o.Listing = []audit.ListedKMS{{Contract: kms, K256Pubkey: "cc"}} }
	events["invented key"] = func(o *audit.Observation) { o.Readings[0].Control.K256Pubkey.Value = "cc" }
}
