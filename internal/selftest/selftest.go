// Package selftest audits a tiny chain of recorded answers, so that a binary can be tried where there is no network.
//
// recorded.json has what a real chain answered, proofs included, and what an API might claim of it: once the truth, and else
// one thing that is wrong. Run serves both on a port of 127.0.0.1 and audits them, with the lines that audit --once runs.
package selftest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"strings"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/metrics"
)

//go:generate go test -run TestTheRecordIsWhatAChainAnswers . -record

//go:embed recorded.json
var recorded []byte

// Bundle is a chain's answers, and cases of what an API claims.
type Bundle struct {
	Calls []Call `json:"calls"`
	Cases []Case `json:"cases"`
}

// Call is a JSON-RPC call and its result. What a Bundle has no call for is an error.
type Call struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
}

// Case is a claim, and what an audit has to find, as Tell tells it.
type Case struct {
	Sentence string          `json:"sentence"`
	Claim    json.RawMessage `json:"claim"`
	Want     string          `json:"want"`
}

// Outcome is what an audit found.
type Outcome struct {
	Case
	Got    string
	Failed []string // the sources, and how
}

// OK tells whether just that was found which had to be.
func (o Outcome) OK() bool { return o.Got == o.Want }

// Recorded is the bundle that is part of the program.
func Recorded() (*Bundle, error) {
	b := &Bundle{}
	if err := json.Unmarshal(recorded, b); err != nil {
		return nil, fmt.Errorf("reading the recorded answers: %w", err)
	}
	return b, nil
}

// Run audits every case.
func (b *Bundle) Run(ctx context.Context, build metrics.Build) ([]Outcome, error) {
	out := make([]Outcome, len(b.Cases))
	for i, c := range b.Cases {
		var err error
		if out[i], err = b.run(ctx, build, c); err != nil {
			return nil, fmt.Errorf("auditing where %s: %w", c.Sentence, err)
		}
	}
	return out, nil
}

func (b *Bundle) run(ctx context.Context, build metrics.Build, c Case) (Outcome, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Outcome{}, err
	}
	defer serve(l, b.handler(c.Claim))()
	url := "http://" + l.Addr().String()
	r, err := Audit(ctx, build, url, url)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Case: c, Got: Tell(r)}
	for _, chain := range r.Chains {
		for _, e := range chain.Errors {
			o.Failed = append(o.Failed, fmt.Sprintf("%s %s: %s", e.Stage, e.Source, e.Message))
		}
	}
	return o, nil
}

// ChainID is that of the recorded chain.
const ChainID = 8453

// Audit audits once, at the newest block of a provider, what an API claims of chain base.
func Audit(ctx context.Context, build metrics.Build, api, provider string) (*audit.Report, error) {
	cfg, err := config.Parse(fmt.Appendf(nil, `
timeout: 30s
confirm_delay: 0s
pending_max: 0s
api: {base_url: %s/api/v1}
chains: [{name: base, chain_id: %d, block: latest, providers: [{name: recorded, url: %s}]}]
`, api, ChainID, provider), config.Env{})
	if err != nil {
		return nil, err
	}
	a, err := daemon.New(cfg, daemon.Options{Build: build, Log: zap.NewNop(), Once: true})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return a.Once(ctx), nil
}

// Tell says what a report found, but for times and what failed on the way.
func Tell(r *audit.Report) string {
	said := []string{r.Verdict.String()}
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			said = append(said, fmt.Sprintf("%s answers, %s completeness", t.Assurance, t.Completeness))
			for _, v := range audit.EntryVerdicts {
				if n := t.Counts.Of(v); n > 0 {
					said = append(said, fmt.Sprintf("%d %s", n, v))
				}
			}
			for _, f := range t.Findings {
				said = append(said, strings.Join(strings.Fields(string(f.Kind)+" "+string(f.List)+" "+f.ID), " "))
			}
		}
	}
	return strings.Join(said, "; ")
}
