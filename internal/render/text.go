package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Text writes r for a person at a terminal.
func Text(w io.Writer, r *audit.Report, opt TextOptions) error {
	t := text{&bytes.Buffer{}, opt, 11}
	for i := range r.Chains {
		t.chain(r, &r.Chains[i])
	}
	if len(r.Chains) == 0 {
		t.printf("No chain was audited: the API's list names no KMS on any of them.\n\n")
	}
	all := worstFirst(r)
	for _, at := range all {
		t.target(r, at.chain, at.Target)
	}
	t.acceptBlock(r, all)
	t.closing(r)
	_, err := w.Write(t.Bytes())
	return wrote(r, "text", err)
}

type text struct {
	*bytes.Buffer
	opt  TextOptions
	hang int // indentation of continuation lines
}

// placed is a contract of a report, with its chain.
type placed struct {
	*audit.Target
	chain string
}

// worstFirst returns the contracts of a report, those with the most severe findings first.
func worstFirst(r *audit.Report) (out []placed) {
	for c, target := range Targets(r) {
		out = append(out, placed{target, c.Chain})
	}
	worst := func(t *audit.Target) audit.Severity {
		if len(t.Findings) == 0 {
			return ""
		}
		return bySeverity(t.Findings)[0].Severity
	}
	slices.SortStableFunc(out, func(a, b placed) int { return CompareSeverities(worst(a.Target), worst(b.Target)) })
	return out
}

// bySeverity returns findings, the most severe first.
func bySeverity(all []audit.Finding) []audit.Finding {
	return slices.SortedStableFunc(slices.Values(all), func(a, b audit.Finding) int { return CompareSeverities(a.Severity, b.Severity) })
}

// printf writes lines, and breaks those that are too long.
func (t *text) printf(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		t.WriteString(wrap(strings.TrimSuffix(line, "\n"), t.opt.Width, t.hang) + "\n")
	}
}

// optional prints a line about something, unless it is empty.
func (t *text) optional(format, what string) {
	if what != "" {
		t.printf(format+"\n", what)
	}
}

// after returns what with words before it, or "" if what is empty.
func after(words, what string) string {
	if what == "" {
		return ""
	}
	return words + what
}

func (t *text) chain(r *audit.Report, c *audit.Chain) {
	t.printf("%s  %s: %s; %s, %s; %s\n", t.word("%-10s", c.Verdict), Plain(c.Chain), t.block(c), plural(len(c.Targets), "contract"), counts(c.Targets...), claimAge(r, c))
	if a := c.Anchored; a != nil && a.Trust != audit.TrustConsensus {
		t.printf("  L1 holds the audited blocks up to %d of %s, trust %s\n", a.Number, when(&a.Time), a.Trust)
	}
	for _, e := range c.Errors {
		t.printf("  error: %s: %s\n", Plain(e.Source), Plain(e.Message))
	}
}

func (t *text) block(c *audit.Chain) string {
	if c.Block == nil {
		return "no block pinned (policy " + Plain(c.Policy) + ")"
	}
	return fmt.Sprintf("%s block %d %s of %s%s", Plain(c.Policy), c.Block.Number, t.short(c.Block.Hash), when(&c.Block.Time), after(", trust ", string(c.Block.Trust)))
}

func claimAge(r *audit.Report, c *audit.Chain) string {
	if c.Claims == audit.ClaimNone {
		return "without claims: only policies are compared"
	}
	if c.Claim == nil {
		return "no claim fetched"
	}
	return "claim " + max(0, r.FinishedAt.Sub(c.Claim.FetchedAt)).Round(time.Second).String() + " old"
}

func (t *text) target(r *audit.Report, chain string, target *audit.Target) {
	t.printf("\n%s  %s %s: %s, completeness %s; %s\n",
		t.word("%-10s", target.Verdict), Plain(chain), Plain(target.Contract), assurance(target), target.Completeness, counts(*target))
	for _, reason := range target.Reasons {
		t.printf("  unknown: %s\n", Plain(reason))
	}
	t.optional("  incomplete: %s", Plain(target.Incomplete))
	t.storage(target)
	t.control(target)
	for _, f := range bySeverity(target.Findings) {
		t.item(f.Severity, f.Kind, f.List, f.ID, Plain(f.Message), openSince(r, f), Plain(f.Runbook))
	}
	for _, a := range target.Accepted {
		t.item(audit.Accepted, a.Kind, a.List, a.ID, Plain(a.Message), accepting(a.Reason, a.Expires))
	}
	t.entries(target.Entries)
}

func assurance(t *audit.Target) string {
	return cmp.Or(after("assurance ", string(t.Assurance)), "nothing read")
}

// item prints a finding or an accepted difference, after its severity, and lines about it.
func (t *text) item(word any, k audit.Kind, l audit.List, id string, lines ...string) {
	t.printf("  %s %s\n", t.word("%-8s", word), spaced(string(k), string(l), t.id(id)))
	for _, line := range lines {
		t.optional("           %s", line)
	}
}

// remarks say what a level of completeness leaves open.
var remarks = map[audit.Completeness]string{
	audit.Unchecked:  "ids that no source names were not searched for",
	audit.EventsOnly: "ids that no source names were searched for in events; an id without an event, or whose event a provider left out, is not found",
	audit.Incomplete: "not all events could be read, or the contract stores something that nothing explains; ids may be missing here",
}

func (t *text) closing(r *audit.Report) {
	levels := map[audit.Completeness]bool{}
	for _, target := range Targets(r) {
		levels[target.Completeness] = true
	}
	if len(r.Chains) > 0 {
		t.printf("\n")
	}
	for _, c := range audit.Completenesses {
		if remark := remarks[c]; remark != "" && levels[c] {
			t.printf("completeness %s: %s\n", c, remark)
		}
	}
	if n, worst := Open(r); n > 0 {
		t.printf("open: %s of earlier audits, not checked again by this one; the worst is %s\n", plural(n, "finding"), worst.Severity)
	}
	t.printf("verdict: %s\n", t.word("%s", r.Verdict))
}

// storage prints the proven storage root, and the slots that the operator explained.
func (t *text) storage(target *audit.Target) {
	if s := target.Storage; s != nil {
		only, code := "only ", ""
		if target.Completeness == audit.Complete {
			only = ""
		}
		if t.opt.Width == 0 {
			code = "; code hash " + Plain(s.CodeHash)
		}
		t.printf("  storage root %s, %s%s explained%s\n", t.short(s.Root), only, plural(s.Slots, "slot"), code)
	}
	for _, e := range target.Explained {
		t.printf("  explained slot %s: %s\n", e.Slot, Plain(e.Reason))
	}
}

func (t *text) entries(entries []audit.Entry) {
	orDash := func(s string) string { return cmp.Or(s, "-") } // the column is always there
	g := Table{
		Heads: []string{t.paint(bold, "VERDICT"), "LIST", "ID", "NAME", "VERSION", "CLAIM", "ON CHAIN", "POLICY", "LAST CHANGE", "WHY"},
		Drop:  []string{"VERSION", "LAST CHANGE", Shorten, "VERSION", "LAST CHANGE", "WHY", "POLICY", "LIST", "NAME"},
	}
	for _, e := range WorstFirst(entries) {
		g.Rows = append(g.Rows, []string{
			t.word("%s", e.Verdict), orDash(string(e.List)), orDash(t.id(e.ID)), orDash(t.name(e.Name)), orDash(t.name(e.Version)),
			orDash(string(e.Claim)), orDash(string(e.OnChain)), string(e.Policy), t.changed(e.Changed), orDash(why(*e)),
		})
	}
	g.Write(t.Buffer, t.opt, "  ", "")
}

// changed gives the block of the last event of an id, and who caused it. Without a limit, it gives time and transaction too.
func (t *text) changed(c *audit.Changed) string {
	if c == nil {
		return ""
	}
	block, actor := fmt.Sprintf("block %d", c.Block), after(", by ", t.id(c.Actor))
	if t.opt.Width > 0 {
		return block + actor
	}
	return block + after(" of ", when(c.Time)) + actor + ", in " + t.id(c.Tx.Hex())
}

// why returns kind and reason, each once.
func why(e audit.Entry) string {
	if e.Reason == "" || e.Reason == string(e.Kind) {
		return string(e.Kind)
	}
	if e.Kind == "" {
		return Plain(e.Reason)
	}
	return string(e.Kind) + " (" + Plain(e.Reason) + ")"
}

// control prints who may change the contract, and what runs there. Addresses are whole, so that people recognise them.
func (t *text) control(target *audit.Target) {
	c := target.Control
	if c == nil {
		return
	}
	t.optional("  owner %s", Plain(c.Owner))
	if c.PendingOwner != "" {
		t.printf("  %s\n", t.paint(yellow, "a transfer of ownership is under way: "+Plain(c.PendingOwner)+" can accept it at any time"))
	}
	own := ""
	for _, a := range c.Accounts {
		switch {
		case a.Address != target.Contract:
			t.printf("  %s %s, code %s\n", Plain(string(a.Role)), Plain(a.Address), t.short(a.CodeHash))
		case a.Role == footprint.Proxy:
			own = "proxy code " + t.short(a.CodeHash)
		default:
			own = "code " + t.short(a.CodeHash)
		}
	}
	t.optional("  %s", own)
	if !c.Complete {
		t.printf("  not proven: code of other accounts may run too\n")
	}
	t.optional("  public keys %s", strings.Join(each(c.KMSPubkeys, t.name), ", "))
	t.optional("  gateway %s", t.name(c.GatewayAppID))
	t.optional("  implementation of apps %s", Plain(c.AppImplementation))
	if b := target.Baseline; b != nil {
		how := map[bool]string{true: "accepted", false: "first seen"}[b.Accepted]
		t.printf("  compared with the baseline, %s at %s\n", how, when(&b.Since))
	}
}

// accepting says until when and why something is accepted.
func accepting(reason string, expires time.Time) string {
	return "until " + when(&expires) + ": " + Plain(reason)
}

// acceptFor is the suggested duration of an exception.
const acceptFor = 30 * 24 * time.Hour

// acceptBlock prints a row for the configuration's accept for each finding that can be accepted. Its reason is empty, which the
// configuration refuses: the operator has to write one.
func (t *text) acceptBlock(r *audit.Report, all []placed) {
	expires := r.FinishedAt.UTC().Add(acceptFor).Format(time.DateOnly)
	var rows []string
	offered := map[string]bool{} // images without a hash share a row
	for _, at := range all {
		for _, f := range bySeverity(at.Findings) {
			if row := acceptRow(at.chain, at.Contract, f, expires); f.Kind.Acceptable() && !offered[row] {
				rows, offered[row] = append(rows, row), true
			}
		}
	}
	if len(rows) > 0 {
		t.printf("\nTo accept a finding until a date, fill in `reason` and add the row to your config:\n")
		t.WriteString("accept:\n" + strings.Join(rows, "")) // rows are copied, and stay whole
	}
}

func acceptRow(chain, contract string, f audit.Finding, expires string) string {
	row := "  - {"
	for _, field := range [][2]string{{"chain", chain}, {"contract", contract}, {"kind", string(f.Kind)}, {"list", string(f.List)}, {"id", f.ID}} {
		if field[1] != "" {
			row += field[0] + ": " + scalar(field[1]) + ", "
		}
	}
	return row + `reason: "", expires: ` + scalar(expires) + "}\n"
}

// scalar is s as a double-quoted YAML scalar: Go's escapes mean the same there, and nothing unprintable is left.
func scalar(s string) string { return strconv.Quote(s) }

// maxName is the number of runes of a name that a terminal shows.
const maxName = 32

// color is an SGR parameter. All have two digits, which keeps the coloured cells of a column aligned.
type color string

const (
	bold    color = "01"
	red     color = "31"
	green   color = "32"
	yellow  color = "33"
	blue    color = "34"
	magenta color = "35"
	cyan    color = "36"
)

func (t *text) paint(c color, s string) string {
	if !t.opt.Color {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// colors are those of verdicts and severities.
var colors = map[any]color{
	audit.Consistent: green, audit.Unknown: yellow, audit.Drift: red,
	audit.Match: green, audit.Mismatch: red, audit.Unverifiable: yellow, audit.Pending: cyan, audit.Accepted: magenta, audit.Unclaimed: blue,
	audit.Critical: red, audit.Warning: yellow, audit.Info: cyan,
}

func (t *text) word(format string, word any) string {
	return t.paint(colors[word], fmt.Sprintf(format, word))
}

// Plain makes a sentence printable, and cuts long words: the sentence is ours, and only words in it may be foreign.
func Plain(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = sanitize.Plain(w)
	}
	return strings.Join(words, " ")
}

func nonEmpty(parts ...string) []string {
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

// spaced joins the parts that are not empty.
func spaced(parts ...string) string { return Plain(strings.Join(parts, " ")) }

// name makes a foreign name fit a cell.
func (t *text) name(s string) string {
	if t.opt.Width == 0 {
		return sanitize.Plain(s)
	}
	return Cut(s, maxName)
}

// id returns an id, a hash or an address whole. A malformed one is cut like a name.
func (t *text) id(s string) string {
	_, notID := sanitize.ParseID(s)
	_, notAddress := sanitize.ParseAddress(s)
	if notID != nil && notAddress != nil {
		return t.name(s)
	}
	return s
}

// short is like id, but shortens on a terminal. It is for hashes that few readers copy.
func (t *text) short(s string) string {
	if t.opt.Width == 0 {
		return t.id(s)
	}
	return shorten(t.id(s))
}

// Cut makes a foreign text printable and short.
func Cut(s string, runes int) string {
	s = sanitize.Plain(s)
	if all := []rune(s); len(all) > runes {
		return string(all[:runes-1]) + "…"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// counts formats counts, as in "3 entries: 1 mismatch, 2 match".
func counts(targets ...audit.Target) string {
	total, parts := 0, []string(nil)
	for _, c := range CountEntries(targets...) {
		total += c.N
		parts = append(parts, fmt.Sprintf("%d %s", c.N, c.Verdict))
	}
	switch total {
	case 0:
		return "no entries"
	case 1:
		return "1 entry: " + parts[0]
	default:
		return fmt.Sprintf("%d entries: %s", total, strings.Join(parts, ", "))
	}
}

// named adds the version to a name that does not end in it.
func named(name, version string) string {
	name, version = sanitize.Plain(name), sanitize.Plain(version)
	if strings.HasSuffix(name, version) {
		return name
	}
	return spaced(name, version)
}
