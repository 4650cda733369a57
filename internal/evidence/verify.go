package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Result is the outcome of Verify. Its sentences are printable.
type Result struct {
	Report  *audit.Report // as today's rules judge the evidence
	Checked []string
	Trusted []string // what the evidence asserts and does not prove

	Differences []string      // how Report differs from the file's report, which older rules made
	Rules       int           // of the file
	Reported    audit.Verdict // of the file
	Apart       bool          // an audited block does not follow from any given checkpoint
}

// Verdict returns the worse of the reported verdict and today's. A forged file can claim older rules, so they excuse no better
// verdict. If Apart, the result is at best unknown.
func (r *Result) Verdict() audit.Verdict {
	if r.Apart {
		return max(r.Reported, r.Report.Verdict, audit.Unknown)
	}
	return max(r.Reported, r.Report.Verdict)
}

// Verify checks the proofs again, judges again, and compares the outcome with the report. The error is ErrRefuted if the evidence
// does not hold, ErrUnsupported if only a newer release can check it, and otherwise the error of ctx.
//
// checkpoints are roots of finalized beacon blocks that the caller trusts. If there are any, every light client must start at one
// of them, and each must be used. Without checkpoints, those in the file are taken.
func Verify(ctx context.Context, f *File, checkpoints []common.Hash) (*Result, error) {
	return verifyBy(ctx, f, checkpoints, audit.Rules)
}

func verifyBy(ctx context.Context, f *File, checkpoints []common.Hash, rules int) (*Result, error) {
	r := &Result{Rules: f.Rules, Reported: f.Report.Verdict}
	r.Checked = []string{"the document matches its SHA-256"}
	chains, unused := []audit.Chain{}, slices.Clone(checkpoints)
	var unsupported error
	for i := range f.Chains {
		c := &f.Chains[i]
		c.checkpoints, c.until, c.proven = checkpoints, f.Report.FinishedAt, nil
		looks, err := c.looks(ctx, r)
		var chain audit.Chain
		if err == nil {
			chain, err = judge(ctx, c, looks)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verifying the evidence: %w", context.Cause(ctx))
		}
		if errors.Is(err, consensus.ErrUnknownFork) || errors.Is(err, proof.ErrUnknownHeader) {
			unsupported = cmp.Or(unsupported, fmt.Errorf("%w: chain %s: %w", ErrUnsupported, sanitize.Plain(c.Intent.Chain), err))
			continue // another chain may refute the evidence
		}
		if err != nil {
			return nil, fmt.Errorf("%w: chain %s: %w", ErrRefuted, sanitize.Plain(c.Intent.Chain), err)
		}
		chains = append(chains, chain)
		r.trust(c, &looks)
		unused = slices.DeleteFunc(unused, func(root common.Hash) bool { return len(c.proven) == 0 || slices.Contains(c.proven, root) })
	}
	if unsupported != nil {
		return nil, unsupported
	}
	if len(unused) > 0 {
		return nil, fmt.Errorf("%w: no chain's light client starts at checkpoint %s", ErrRefuted, unused[0])
	}
	r.Trusted = append(r.Trusted, "the time of the audit, the events (further ids, and when and by whom ids were changed), and since when findings are open")
	r.Report = audit.NewReport(f.Report.AuditID, f.Report.Version, f.Report.StartedAt, f.Report.FinishedAt, chains)
	same, differences := compare(f.Report, r.Report)
	switch {
	case len(differences) == 0:
		r.Checked = append(r.Checked, fmt.Sprintf("judging again by rules %d gives the same verdicts, findings and entries (%d) as the report", rules, same))
	case f.Rules == rules && len(differences) > 1:
		return nil, fmt.Errorf("%w: it gives another report: %s (and %d more)", ErrRefuted, differences[0], len(differences)-1)
	case f.Rules == rules:
		return nil, fmt.Errorf("%w: it gives another report: %s", ErrRefuted, differences[0])
	default:
		r.Differences = differences
	}
	return r, nil
}

// judge judges a chain. Forged input can make that slow or panic, so it runs in a goroutine that is abandoned when ctx ends.
func judge(ctx context.Context, c *Chain, looks audit.Looks) (audit.Chain, error) {
	var out audit.Outcome
	done := make(chan error, 1)
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("it cannot be judged: %s", sanitize.Plain(fmt.Sprint(v)))
			}
		}()
		out = audit.Judge(c.Intent, c.Prior, looks)
	}()
	select {
	case err := <-done:
		if out.Absent {
			err = errors.New("an audit would not report it, because the API names no KMS there")
		}
		return out.Chain, err
	case <-ctx.Done():
		return audit.Chain{}, ctx.Err()
	}
}

// looks derives a chain's looks from their raw bytes.
func (c *Chain) looks(ctx context.Context, r *Result) (audit.Looks, error) {
	out := audit.Looks{Interrupted: c.Interrupted}
	first, err := c.derive(ctx, r, &c.First)
	if err != nil {
		return out, err
	}
	out.First = *first
	if out.Second, err = c.derive(ctx, r, c.Second); err != nil {
		return out, err
	}
	if out.Head, err = c.derive(ctx, r, c.Head); err != nil || len(c.checkpoints) == 0 {
		return out, err
	}
	for _, o := range []*audit.Observation{first, out.Second} {
		if o != nil && o.Block != nil && o.Block.Trust != audit.TrustConsensus && !c.confirmed(first.L1, o.Block) {
			r.Apart = true
			r.Trusted = append(r.Trusted, fmt.Sprintf("%s: that block %d is on this chain: it does not follow from a given checkpoint, so the verdict is at best unknown", sanitize.Plain(c.Intent.Chain), o.Block.Number))
		}
	}
	return out, nil
}

func (c *Chain) derive(ctx context.Context, r *Result, l *Look) (*audit.Observation, error) {
	if l == nil {
		return nil, nil
	}
	o := l.Observation
	answers := slices.Clip(l.Listing)
	if l.Claim != nil {
		answers = append(answers, *l.Claim)
	}
	for _, a := range answers {
		if sum := sha256.Sum256(a.Body); hex.EncodeToString(sum[:]) != a.SHA256 {
			return nil, errors.New("a response of the API does not match its SHA-256")
		}
	}
	if err := l.decodeAnswers(&o, c.Intent.ChainID); err != nil {
		return nil, err
	}
	if len(answers) > 0 {
		r.Checked = append(r.Checked, fmt.Sprintf("%s: the API's responses (%d) match their SHA-256 and are valid", sanitize.Plain(c.Intent.Chain), len(answers)))
	}
	seen := map[common.Address]bool{}
	for i := range o.Readings {
		seen[o.Readings[i].Contract] = true
		switch {
		case o.Readings[i].Assurance == audit.Proven:
			return nil, fmt.Errorf("the evidence claims that contract %s is proven, but has no proof", o.Readings[i].Contract)
		case o.Block == nil:
			return nil, errors.New("contracts were read without a block")
		}
	}
	for _, p := range l.Proven {
		seen[p.Contract] = true
	}
	if len(seen) < len(o.Readings)+len(l.Proven) {
		return nil, errors.New("a contract was read twice at one block")
	}
	proven, err := c.prove(ctx, l)
	if errors.Is(err, proof.ErrUnknownHeader) {
		err = cmp.Or(c.anchored(r, l), err) // the anchor may refute the block
	}
	if err != nil {
		return nil, err
	}
	if len(proven) > 0 {
		r.Checked = append(r.Checked, fmt.Sprintf("%s: the answers of the contracts (%d) at block %d are proven from the block's header, whose hash is %s", sanitize.Plain(c.Intent.Chain), len(proven), o.Block.Number, o.Block.Hash))
	}
	o.Readings = slices.Concat(o.Readings, proven)
	if err := c.anchored(r, l); err != nil {
		return nil, err
	}
	return &o, c.underL1(ctx, r, l)
}

// anchored verifies who vouches for a look's block.
func (c *Chain) anchored(r *Result, l *Look) error {
	o := &l.Observation
	if l.Anchor == nil {
		if o.Anchored != nil || o.Finalized != nil || o.Block != nil && o.Block.Trust != "" && o.Block.Trust != audit.TrustProviders {
			return errors.New("the evidence claims that an anchor vouches for a block, but has no proof")
		}
		return nil
	}
	head, err := c.replay(r, l.Anchor.Documents, c.Intent.ChainID)
	if err != nil {
		return err
	}
	anchored, finalized := observe.AnchoredOf(head)
	if o.Anchored == nil || *o.Anchored != *anchored || o.Finalized == nil || *o.Finalized != *finalized {
		return fmt.Errorf("the sync committees finalized block %d, but the evidence says otherwise", anchored.Number)
	}
	if o.Block == nil {
		return nil
	}
	hash, err := sanitize.ParseID(o.Block.Hash)
	if err != nil {
		return fmt.Errorf("reading the hash of block %d: %w", o.Block.Number, err)
	}
	if doubt := head.Vouches(o.Block.Number, hash, l.Anchor.Headers); doubt != nil && o.Block.Trust == audit.TrustConsensus {
		return fmt.Errorf("the evidence claims that the sync committees vouch for block %d: %w", o.Block.Number, doubt)
	}
	switch o.Block.Trust {
	case audit.TrustProviders:
	case audit.TrustConsensus:
		r.Checked = append(r.Checked, fmt.Sprintf("%s: the sync committees vouch for block %d, from checkpoint %s on", sanitize.Plain(c.Intent.Chain), o.Block.Number, l.Anchor.Checkpoint))
	default:
		return fmt.Errorf("the evidence claims that block %d is %s, but has no proof", o.Block.Number, sanitize.Quote(string(o.Block.Trust)))
	}
	return nil
}

// replay verifies what the sync committees of a chain signed. For a beacon chain that is not built in, the committees' size and
// period come from the file.
func (c *Chain) replay(r *Result, docs anchor.Documents, chainID uint64) (*anchor.Head, error) {
	if start := docs.Checkpoint; len(c.checkpoints) > 0 && !slices.Contains(c.checkpoints, start) && !slices.Contains(c.proven, start) {
		return nil, fmt.Errorf("its light client starts at checkpoint %s, which is not one of those given", start)
	}
	var err error
	if docs.Network, err = docs.Network.OfChain(chainID); err != nil {
		return nil, fmt.Errorf("reading which beacon chain it follows: %w", err)
	}
	if _, known := consensus.ByChainID(chainID); !known {
		n := docs.Network
		r.Trusted = append(r.Trusted, fmt.Sprintf("%s: that chain id %d belongs to beacon chain %s, which this release does not know, and that its sync committees have %d members and sign for %d slots",
			sanitize.Plain(c.Intent.Chain), chainID, sanitize.Quote(n.Name), n.SyncCommitteeSize, n.SlotsPerEpoch*n.EpochsPerSyncCommitteePeriod))
	}
	head, err := docs.Replay(c.until)
	if err != nil {
		return nil, fmt.Errorf("verifying what the sync committees signed: %w", err)
	}
	c.proven = append(c.proven, docs.Checkpoint, head.Finalized.Root) // a second look may start at the head
	return head, nil
}

// decodeAnswers decodes the API's responses.
func (l *Look) decodeAnswers(o *audit.Observation, chainID uint64) error {
	if l.Claim != nil {
		d, err := kmsapi.Decode(l.Claim.Body)
		if err != nil {
			return fmt.Errorf("decoding the API's response: %w", err)
		}
		o.Claim = observe.ClaimOf(d)
		o.Claim.Claim = l.Claim.Claim
	}
	var pages [][]byte
	for _, page := range l.Listing {
		pages = append(pages, page.Body)
	}
	if pages != nil {
		all, err := kmsapi.DecodeList(pages...)
		if err != nil {
			return fmt.Errorf("decoding the API's list of KMS: %w", err)
		}
		o.Listing = observe.ListingOf(all, chainID)
	}
	return nil
}

// prove verifies a look's proven readings.
func (c *Chain) prove(ctx context.Context, l *Look) ([]audit.Reading, error) {
	if len(l.Proven) == 0 {
		return nil, nil
	}
	at := l.Observation.Block
	if at == nil {
		return nil, errors.New("contracts were proven without a block")
	}
	hash, err := sanitize.ParseID(at.Hash)
	if err != nil {
		return nil, fmt.Errorf("reading the hash of block %d: %w", at.Number, err)
	}
	queries := make([]ethrpc.Query, len(l.Proven))
	for i, p := range l.Proven {
		queries[i] = p.Query
	}
	state, block, err := ethrpc.Prove(ctx, c.Intent.ChainID, hash, ethrpc.Witness{Header: l.Header, Nodes: c.Nodes, Codes: c.Codes}, queries, false)
	if err != nil {
		return nil, fmt.Errorf("proving the contracts' answers at block %d: %w", at.Number, err)
	}
	if block.Number != at.Number || !block.Time.Equal(at.Time) || at.Hash != hash.Hex() {
		return nil, fmt.Errorf("block %s is block %d of %s, not %d of %s", hash, block.Number, block.Time, at.Number, at.Time)
	}
	out := make([]audit.Reading, len(queries))
	for i, p := range l.Proven {
		r := &state.Readings[i]
		if r.Err == nil && !r.Proven {
			r.Err = r.Unproven
		}
		if r.Err != nil {
			return nil, fmt.Errorf("the answers of contract %s at block %d are not proven: %w", p.Contract, at.Number, r.Err)
		}
		r.Provider = p.Provider
		out[i] = observe.ReadingOf(r, queries[i], p.Events)
		out[i].Changes = p.Changes
	}
	return out, nil
}

// trust adds what is not proven about a chain's looks.
func (r *Result) trust(c *Chain, looks *audit.Looks) {
	say := func(format string, args ...any) {
		r.Trusted = append(r.Trusted, sanitize.Plain(c.Intent.Chain)+": "+fmt.Sprintf(format, args...))
	}
	left := fmt.Sprintf("contracts: %d, open findings: %d", len(c.Prior.Contracts), len(c.Prior.Open))
	if n := len(c.Prior.L1); n > 0 {
		left += fmt.Sprintf(", blocks with what L1 said about them: %d", n)
	}
	say("the configuration, and what earlier audits remembered (%s)", left)
	failures := 0
	for _, o := range looks.All() {
		failures += len(o.Failures)
		if o.Claim != nil {
			say("that the API sent its response at %s: responses are not signed", o.Claim.FetchedAt.Format(time.RFC3339))
		}
		if o.Block == nil {
			continue
		}
		if o.Block.Trust == audit.TrustConsensus {
			say("that the checkpoint is a finalized block of the beacon chain, and that two thirds of each sync committee since then are honest")
		} else {
			say("that block %d, %s, is on this chain, and was %s at %s", o.Block.Number, sanitize.Plain(o.Block.Hash), sanitize.Plain(o.Tag), o.At.Format(time.RFC3339))
		}
		believed := slices.DeleteFunc(slices.Clone(o.Readings), func(r audit.Reading) bool { return r.Assurance == audit.Proven || r.Err != "" })
		if len(believed) > 0 {
			say("the answers of contracts (%d) at block %d, which are not proven; the first is %s", len(believed), o.Block.Number, believed[0].Contract)
		}
	}
	if failures > 0 {
		say("that sources failed (%d times); a failure can make a verdict unknown, but never consistent", failures)
	}
}

// key identifies a part of a report: the report itself, a chain, a contract, an entry, a finding, a count of entries, or a field of
// control.
type key struct{ chain, contract, what, kind, list, id string }

func (k key) String() string {
	words := []string{k.chain, k.contract, k.what, k.kind, k.list, k.id}
	for i := range words {
		words[i] = sanitize.Plain(words[i])
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return cmp.Or(strings.Join(words, " "), "the report")
}

// facts are the states of a report's parts. A key of several parts, such as images without a hash, has all their states, sorted.
type facts struct {
	keys   []key // entries and findings before their contract, contracts before their chain
	states map[key][]string
}

func (f *facts) add(k key, words ...any) {
	if f.states[k] == nil {
		f.keys = append(f.keys, k)
	}
	f.states[k] = append(f.states[k], strings.TrimSpace(fmt.Sprintln(words...)))
}

// factsOf lists the facts that the evidence must reproduce. It leaves out sentences, times, names and counts of reads, because
// they may differ between releases.
func factsOf(r *audit.Report) *facts {
	f := &facts{states: map[key][]string{}}
	for _, c := range r.Chains {
		for j := range c.Targets {
			f.target(c.Chain, &c.Targets[j])
		}
		state := []any{c.Verdict, "chain id", c.ChainID, "policy", c.Policy}
		if c.Block != nil {
			state = append(state, "block", c.Block.Number, c.Block.Hash, c.Block.Time)
			if c.Block.Trust != "" {
				state = append(state, "trust", c.Block.Trust)
			}
		}
		if c.Claim != nil {
			state = append(state, "claim", c.Claim.SHA256)
		}
		if c.Claims != "" {
			state = append(state, "claims", c.Claims)
		}
		f.add(key{chain: c.Chain}, state...)
	}
	f.add(key{}, r.Verdict)
	for _, states := range f.states {
		slices.Sort(states)
	}
	return f
}

func (f *facts) target(chain string, t *audit.Target) {
	for _, e := range t.Entries {
		f.add(key{chain, t.Contract, "entry", "", string(e.List), e.ID}, "claim", e.Claim, "on chain", e.OnChain, "policy", or(e.Policy), e.Verdict, or(e.Kind))
	}
	for _, n := range t.Findings {
		f.add(key{chain, t.Contract, "finding", string(n.Kind), string(n.List), n.ID}, n.State)
	}
	for _, v := range audit.EntryVerdicts {
		if n := t.Counts.Of(v); n > 0 {
			f.add(key{chain: chain, contract: t.Contract, what: "count", id: string(v)}, n)
		}
	}
	// Each field of control, and each account whose code runs.
	var fields map[string]any
	if t.Control != nil {
		c := *t.Control
		for _, a := range c.Accounts {
			f.add(key{chain: chain, contract: t.Contract, what: "control", id: "code of " + a.Address}, a.Role, a.CodeHash)
		}
		c.Accounts = nil
		if b, err := json.Marshal(c); err == nil {
			_ = json.Unmarshal(b, &fields) // cannot fail
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if v := fields[name]; v != nil && v != "" {
			f.add(key{chain: chain, contract: t.Contract, what: "control", id: name}, v)
		}
	}
	f.add(key{chain: chain, contract: t.Contract}, t.Verdict, "assurance", or(t.Assurance), "completeness", t.Completeness)
}

func or[T ~string](s T) T { return cmp.Or(s, "none") }

// compare returns how many keys have the same states, and a sentence about each that differs.
func compare(reported, derived *audit.Report) (same int, differences []string) {
	said, gives := factsOf(reported), factsOf(derived)
	for _, k := range said.keys {
		if slices.Equal(said.states[k], gives.states[k]) {
			same++
		} else {
			differences = append(differences, fmt.Sprintf("%s: the report says %s, but the evidence gives %s", k, plain(said.states[k]), plain(gives.states[k])))
		}
	}
	for _, k := range gives.keys {
		if said.states[k] == nil && k.what != "control" { // a later release may read more
			differences = append(differences, fmt.Sprintf("%s: the report lacks it, but the evidence gives %s", k, plain(gives.states[k])))
		}
	}
	return same, differences
}

func plain(states []string) string {
	if states == nil {
		return "none"
	}
	return sanitize.Plain(strings.Join(states, "; "))
}
