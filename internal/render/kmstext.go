package render

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// Answer is what a command was asked for: text for people, and by its fields JSON for programs.
type Answer interface{ WriteText(*bytes.Buffer) }

// Show writes a for people or, as JSON, for programs.
func Show(w io.Writer, a Answer, asJSON bool) error {
	var b bytes.Buffer
	if asJSON {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("writing the answer as JSON: %w", err)
		}
		b = escaped(b.Bytes())
	} else {
		a.WriteText(&b)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// escaped spells what a terminal would not print, such as control and bidirectional characters, as JSON escapes. In
// valid JSON it can only stand in a text.
func escaped(b []byte) (out bytes.Buffer) {
	for _, r := range string(b) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out
}

// grid is rows of printable cells. The first row are headings.
type grid [][]string

// add adds a row of which cells may be foreign.
func (g *grid) add(cells ...string) {
	for i, c := range cells {
		cells[i] = sanitize.Plain(c)
	}
	*g = append(*g, cells)
}

// write leaves columns out where no row has anything.
func (g grid) write(b *bytes.Buffer, indent string) {
	used := make([]bool, len(g[0]))
	for _, row := range g[1:] {
		for i, c := range row {
			used[i] = used[i] || c != ""
		}
	}
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range g {
		var cells []string
		for i, c := range row {
			if used[i] {
				cells = append(cells, cmp.Or(c, "-"))
			}
		}
		fmt.Fprintln(tab, indent+strings.Join(cells, "\t"))
	}
	_ = tab.Flush() // a buffer takes everything
}

func (l KMSList) WriteText(b *bytes.Buffer) {
	if len(l.KMS) == 0 {
		b.WriteString("the API lists no KMS\n")
		return
	}
	g := grid{{"ID", "SLUG", "LABEL", "CHAIN ID", "CONTRACT", "NODES", "VERSION", "URL"}}
	for _, k := range l.KMS {
		g.add(k.ID, k.Slug, k.Label, k.chain(), k.Contract, k.nodes(), k.Version, k.URL)
	}
	g.write(b, "")
}

func (k KMS) WriteText(b *bytes.Buffer) {
	pairs := [][2]string{
		{"id", k.ID}, {"slug", k.Slug}, {"label", k.Label}, {"chain id", k.chain()}, {"contract", k.Contract},
		{"k256 pubkey", k.K256Pubkey}, {"ca pubkey", k.CAPubkey}, {"nodes", k.nodes()}, {"version", k.Version}, {"url", k.URL},
	}
	if k.GatewayAppID != nil {
		pairs = append(pairs, [2]string{"gateway app id", cmp.Or(*k.GatewayAppID, "none")})
	}
	list(b, "", pairs)
}

func (k KMS) chain() string {
	if k.ChainID == 0 {
		return "off chain"
	}
	return strconv.FormatUint(k.ChainID, 10)
}

func (k KMS) nodes() string {
	if k.NodeCount == nil {
		return ""
	}
	return strconv.FormatUint(*k.NodeCount, 10)
}

func (o OnChain) WriteText(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s (chain id %d): %s\n", sanitize.Plain(o.Chain), o.ChainID, plural(len(o.Contracts), "contract"))
	for _, c := range o.Contracts {
		fmt.Fprintf(b, "\n%s on %s (chain id %d)\n", c.Contract, sanitize.Plain(c.Chain), c.ChainID)
		list(b, "  ", [][2]string{{"k256 pubkey", c.K256Pubkey}, {"ca pubkey", c.CAPubkey}, {"gateway contract", c.GatewayContract}})
		if len(c.Entries) == 0 {
			b.WriteString("  no entries\n")
			continue
		}
		g := grid{{"LIST", "CLAIM", "ID", "NAME", "VERSION"}}
		for _, e := range c.Entries {
			g.add(string(e.List), string(e.Claim), e.ID, e.Name, e.Version)
		}
		g.write(b, "  ")
	}
}

func (a AppIDs) WriteText(b *bytes.Buffer) {
	if len(a.AppIDs) == 0 {
		b.WriteString("the API reserved no app ids\n")
		return
	}
	g := grid{{"APP ID", "NONCE"}}
	for _, id := range a.AppIDs {
		g.add(id.ID, strconv.FormatUint(id.Nonce, 10))
	}
	g.write(b, "")
}

// list writes what is there of names and values.
func list(b *bytes.Buffer, indent string, pairs [][2]string) {
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(tab, "%s%s\t%s\n", indent, p[0], sanitize.Plain(p[1]))
		}
	}
	_ = tab.Flush() // a buffer takes everything
}
