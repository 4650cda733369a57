//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

// tampered are the rows whose evidence is changed, with totalChanges changes in all.
var tampered = []string{
	"every answer is proven, and so is that nothing else is stored",
	"an image that the API leaves out is found",
	"the provider drops one log",
	"the second provider shows that an image was removed",
	"a provider without proofs is believed, and asked for events",
}

const totalChanges = 10_000

func TestTamperedEvidenceIsRefused(t *testing.T) {
	t.Parallel()
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

// tamper changes single bytes of the first line until n of them altered its meaning. No change may be accepted with the old SHA-256.
// With a new SHA-256, a change may be accepted only if the meaning is the same.
//
// A change keeps the meaning if Go decodes the same values, or if it is accepted and only unverified, display-only values differ.
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
			t.Errorf("%s: it is accepted", what)
		}
		f, err := evidence.Decode(bytes.NewReader(fmt.Appendf(changed, "\n{\"sha256\":\"%x\"}\n", sha256.Sum256(changed))))
		switch {
		case err != nil:
			altered++
		case reflect.DeepEqual(original, f):
			kept++
		default:
			r, err := evidence.Verify(t.Context(), f, nil)
			if err != nil {
				altered++
				continue
			}
			kept++
			if diff := cmp.Diff(keys(original.Report), keys(r.Report)); diff != "" || r.Verdict() != original.Report.Verdict {
				t.Errorf("%s: another report is derived:\n%s", what, diff)
			}
		}
	}
	t.Logf("seed %d: %d changes of meaning in %d bytes were refused, %d changes kept it", seed, altered, len(line), kept)
}

// somePlace picks a random byte, or a random byte of a random field, since code and proofs are most of the bytes but few fields.
func somePlace(random *rand.Rand, line []byte) int {
	at := random.IntN(len(line))
	if random.IntN(2) == 0 {
		return at
	}
	fields := bytes.SplitAfter(line, []byte(","))
	n := random.IntN(len(fields))
	return len(bytes.Join(fields[:n], nil)) + random.IntN(len(fields[n]))
}

// keys are the test's own keys, which verify compares.
func keys(r *audit.Report) (out []string) {
	for _, c := range r.Chains {
		out = append(out, fmt.Sprint(c.Chain, c.Verdict))
		for _, target := range c.Targets {
			out = append(out, fmt.Sprint(target.Contract, target.Verdict, target.Assurance, target.Completeness))
			for _, e := range target.Entries {
				out = append(out, fmt.Sprint(e.List, e.ID, e.Claim, e.OnChain, e.Policy, e.Verdict, e.Kind))
			}
			for _, f := range target.Findings {
				out = append(out, fmt.Sprint(f.Kind, f.List, f.ID, f.State))
			}
		}
	}
	return out
}
