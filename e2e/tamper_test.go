//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

// tampered are the rows in whose evidence single bytes are changed, totalChanges of them in all.
var tampered = []string{
	"every answer is proven, and that nothing else is stored",
	"an image that the API leaves out is found",
	"the provider drops one log",
	"the second provider tells that an image was removed",
	"a provider without proofs is believed, and asked for events",
}

const totalChanges = 10_000

func TestNoChangeOfMeaningIsTaken(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../docs/report.schema.json")
	must(t, err)
	for name := range nodes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, name)
			for _, sentence := range tampered {
				i := slices.IndexFunc(rows, func(r row) bool { return r.sentence == sentence })
				if i < 0 {
					t.Fatalf("there is no row %q", sentence)
				}
				t.Run(sentence, func(t *testing.T) { tamper(t, rows[i].run(t, s, schema), totalChanges/len(nodes)/len(tampered)) })
			}
		})
	}
}

// tamper changes single bytes of the first line until n of them altered its meaning. No change may be taken as it is;
// and where whoever made it also wrote a new SHA-256 beside it, it may be taken only if the meaning is the same.
//
// A change keeps the meaning where Go reads the same values (spaces, the case of a hex digit or of a key, another
// spelling of a character or number), and where it is taken and all that differs is for show: see showless.
func tamper(t *testing.T, path string, n int) {
	whole := unpacked(t, path)
	line, _, _ := bytes.Cut(whole, []byte("\n"))
	original := decodeEvidence(t, path)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	altered, kept := 0, 0
	for altered < n && !t.Failed() {
		at := somePlace(random, line)
		changed := bytes.Clone(line)
		changed[at] = line[random.IntN(len(line))]
		if random.IntN(4) == 0 {
			changed[at] = byte(random.IntN(256))
		}
		if changed[at] == line[at] {
			continue
		}
		what := fmt.Sprintf("seed %d: byte %d, %q instead of %q, after %q", seed, at, changed[at], line[at], line[max(at-80, 0):at])
		if _, err := evidence.Decode(bytes.NewReader(slices.Concat(changed, whole[len(line):]))); err == nil {
			t.Errorf("%s: it is taken as it is", what)
		}
		f, err := evidence.Decode(bytes.NewReader(fmt.Appendf(changed, "\n{\"sha256\":\"%x\"}\n", sha256.Sum256(changed))))
		switch {
		case err != nil:
			altered++
		case reflect.DeepEqual(original, f):
			kept++
		default:
			r, _, err := evidence.Verify(t.Context(), f)
			if err != nil {
				altered++
				continue
			}
			kept++
			if diff := cmp.Diff(showless(t, original), showless(t, f)); diff != "" {
				t.Errorf("%s: it is taken:\n%s", what, diff)
			}
			if diff := cmp.Diff(told(t, original.Report), told(t, r)); diff != "" {
				t.Errorf("%s: another report is derived:\n%s", what, diff)
			}
		}
	}
	t.Logf("seed %d: %d changes of meaning in %d bytes were refused, %d changes kept it", seed, altered, len(line), kept)
}

// somePlace is any byte, or any byte of any field: code and proofs are most of the bytes, and few of the fields.
func somePlace(random *rand.Rand, line []byte) int {
	at := random.IntN(len(line))
	if random.IntN(2) == 0 {
		return at
	}
	fields := bytes.SplitAfter(line, []byte(","))
	n := random.IntN(len(fields))
	return len(bytes.Join(fields[:n], nil)) + random.IntN(len(fields[n]))
}

// showless returns the evidence without what is for show, and what the rows' verdicts do not rest on.
func showless(t *testing.T, f *evidence.File) evidence.File {
	t.Helper()
	out := *f
	out.Report, out.Chains = told(t, f.Report), slices.Clone(f.Chains)
	out.PendingMax = 0 // in none of the rows anything is pending
	for i := range out.Chains {
		c := &out.Chains[i]
		c.Began = time.Time{}
		c.Events = nil // they name what to ask for; the answers are proven, and the last event of an id is in the report
		c.Claims, c.Reads = slices.Clone(c.Claims), slices.Clone(c.Reads)
		for j := range c.Claims {
			// The report has those of its pass, but for the headers.
			c.Claims[j].FetchedAt, c.Claims[j].APIVersion, c.Claims[j].RequestID, c.Claims[j].Headers = nil, "", "", nil
		}
		for j := range c.Reads {
			showlessRead(&c.Reads[j], j+1 < len(c.Reads))
		}
	}
	return out
}

// showlessRead leaves out who served a reading, when, and how others failed: the report has that where it shows.
// Where a later reading of the same block took its place, that one tells the number. Who controls a contract is in the
// report too, and its keys are held against a list of KMS, which these rows do without.
func showlessRead(r *evidence.Read, replaced bool) {
	r.Provider, r.Head, r.Agreed = "", nil, 0
	if r.Block != nil {
		r.Block = &evidence.Block{Number: r.Block.Number, Hash: r.Block.Hash}
	}
	if r.Believed != nil {
		believed := *r.Believed
		believed.Why, believed.Control = "", nil
		if replaced {
			r.Block.Number = 0
		}
		// Without cross-checks nothing is held against what the contract says of its KMS.
		believed.Control = maps.Clone(believed.Control)
		for addr, c := range believed.Control {
			c.GatewayAppID, c.K256Pubkey, c.CAPubkey = nil, nil, nil
			believed.Control[addr] = c
		}
		r.Believed = &believed
	}
	r.Failed = slices.Clone(r.Failed)
	for i := range r.Failed {
		r.Failed[i].Getter = nil
	}
}

// told is a report, as it is printed, without what names its run.
func told(t *testing.T, r *audit.Report) *audit.Report {
	t.Helper()
	b, err := json.Marshal(r)
	must(t, err)
	out := inErrorOrder(decodeReport(t, string(b)))
	out.AuditID, out.Version, out.StartedAt, out.FinishedAt = "", "", time.Time{}, time.Time{}
	return out
}
