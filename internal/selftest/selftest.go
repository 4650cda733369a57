// Package selftest audits recorded answers of a tiny chain, so that a binary can be tried without a network.
//
// recorded.json has the answers of a real chain, including proofs, and claims of an API: a correct one, and several with one error
// each. Run serves them on 127.0.0.1 and audits them with the code of audit --once.
package selftest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/metrics"
)

//go:generate go test -run TestTheRecordIsWhatAChainAnswers . -record

//go:embed recorded.json
var recorded []byte

// Bundle has a chain's answers and claims about it.
type Bundle struct {
	Calls []Call `json:"calls"`
	Cases []Case `json:"cases"`
}

// Call is a JSON-RPC call and its result.
type Call struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
}

// Case is a claim and the expected result of its audit, in the format of Tell.
type Case struct {
	Sentence string          `json:"sentence"`
	Claim    json.RawMessage `json:"claim"`
	Want     string          `json:"want"`
}

// Outcome is the result of an audit.
type Outcome struct {
	Case
	Got    string
	Failed []string // sources and their errors
}

// OK reports whether the audit found exactly the expected result.
func (o Outcome) OK() bool { return o.Got == o.Want }

// Recorded returns the embedded bundle.
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
			return nil, fmt.Errorf("auditing the case that %s: %w", c.Sentence, err)
		}
	}
	return out, nil
}

func (b *Bundle) run(ctx context.Context, build metrics.Build, c Case) (Outcome, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Outcome{}, err
	}
	s := &http.Server{Handler: b.handler(c.Claim), ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // returns when s is closed
	defer serving.Wait()
	defer s.Close()
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

// ChainID is the chain id of the recorded chain.
const ChainID = 8453

// Audit audits chain base once, at the provider's newest block.
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

// Tell summarises a report without times and errors.
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

// maxAsked is the most bytes of a request.
const maxAsked = 1 << 20

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// handler serves the recorded answers as a provider, and the claim as the API.
func (b *Bundle) handler(claim []byte) http.Handler {
	results := map[string]json.RawMessage{}
	for _, c := range b.Calls {
		results[key(c.Method, c.Params)] = c.Result
	}
	answer := func(r request) map[string]any {
		if result, ok := results[key(r.Method, r.Params)]; ok {
			return map[string]any{"jsonrpc": "2.0", "id": r.ID, "result": result}
		}
		return map[string]any{"jsonrpc": "2.0", "id": r.ID, "error": map[string]any{"code": -32000, "message": "header not found"}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/kms/on-chain/base", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(claim)
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		var raw json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsked)).Decode(&raw); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		var batch []request
		if json.Unmarshal(raw, &batch) != nil {
			var one request
			_ = json.Unmarshal(raw, &one) // an invalid call matches no recorded one
			_ = json.NewEncoder(w).Encode(answer(one))
			return
		}
		answers := []map[string]any{}
		for _, one := range batch {
			answers = append(answers, answer(one))
		}
		_ = json.NewEncoder(w).Encode(answers)
	})
	return mux
}

// key identifies a call. Missing, null and empty parameters are the same.
func key(method string, params json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, params) != nil || b.String() == "null" || b.String() == "[]" {
		return method
	}
	return method + b.String()
}
