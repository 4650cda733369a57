package evidence

import (
	"errors"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Fault is an error as far as an audit tells one from another: by its text, and by the lies it is about.
type Fault struct {
	Provider     string        `json:"provider,omitempty"`
	Text         string        `json:"text"`
	Invalid      bool          `json:"invalid,omitempty"`       // the API's answer cannot be used
	ProofInvalid bool          `json:"proof_invalid,omitempty"` // a proof that does not verify
	ChainID      *[2]uint64    `json:"chain_id,omitempty"`      // got, and want
	Disagreement *Disagreement `json:"disagreement,omitempty"`
	Getter       *Getter       `json:"getter,omitempty"`
	Providers    []Fault       `json:"providers,omitempty"` // where every one of them failed
}

// Disagreement is an ethrpc.DisagreementError.
type Disagreement struct {
	Providers [2]string `json:"providers"`
	Block     Block     `json:"block"`
	What      string    `json:"what"`
}

// Getter is an ethrpc.GetterError.
type Getter struct {
	Said   Answer `json:"said"`
	Proven Answer `json:"proven"`
}

func faultOf(provider string, err error) Fault {
	f := Fault{Provider: provider, Text: err.Error(), ProofInvalid: errors.Is(err, proof.ErrInvalid)}
	if all, ok := errors.AsType[*ethrpc.ReadError](err); ok {
		return Fault{Text: err.Error(), Providers: faultsOf(all.Failures)}
	}
	_, f.Invalid = errors.AsType[*kmsapi.InvalidError](err)
	if e, ok := errors.AsType[*ethrpc.ChainIDError](err); ok {
		f.ChainID = &[2]uint64{e.Got, e.Want}
	}
	if e, ok := errors.AsType[*ethrpc.DisagreementError](err); ok {
		f.Disagreement = &Disagreement{e.Providers, Block(e.Block), e.What}
	}
	if e, ok := errors.AsType[*ethrpc.GetterError](err); ok {
		f.Getter = &Getter{answerOf(e.Ask, e.Said), answerOf(e.Ask, e.Proven)}
	}
	return f
}

func faultsOf(failures []ethrpc.ProviderError) []Fault {
	var out []Fault
	for _, p := range failures {
		out = append(out, faultOf(p.Provider, p.Err))
	}
	return out
}

// replayed is an error that says what another one said, and is what that one was.
type replayed struct {
	text string
	is   []error
}

func (e *replayed) Error() string   { return e.text }
func (e *replayed) Unwrap() []error { return e.is }

func (f Fault) err() error {
	if f.Providers != nil {
		return &ethrpc.ReadError{Failures: providerErrors(f.Providers)}
	}
	e := &replayed{text: f.Text}
	if f.Invalid {
		e.is = append(e.is, &kmsapi.InvalidError{})
	}
	if f.ProofInvalid {
		e.is = append(e.is, proof.ErrInvalid)
	}
	if f.ChainID != nil {
		e.is = append(e.is, &ethrpc.ChainIDError{Got: f.ChainID[0], Want: f.ChainID[1]})
	}
	if d := f.Disagreement; d != nil {
		e.is = append(e.is, &ethrpc.DisagreementError{Providers: d.Providers, Block: ethrpc.Block(d.Block), What: d.What})
	}
	if g := f.Getter; g != nil {
		e.is = append(e.is, &ethrpc.GetterError{Ask: g.Said.ask(), Said: g.Said.answer(), Proven: g.Proven.answer()})
	}
	return e
}

func providerErrors(faults []Fault) []ethrpc.ProviderError {
	var out []ethrpc.ProviderError
	for _, f := range faults {
		out = append(out, ethrpc.ProviderError{Provider: f.Provider, Err: f.err()})
	}
	return out
}

func answerOf(ask ethrpc.Ask, a ethrpc.Answer) Answer {
	out := Answer{ask.Contract, ask.Getter, ask.ID, a.Allowed, ""}
	if a.Err != nil {
		out.Error = a.Err.Error()
	}
	return out
}

func (a Answer) ask() ethrpc.Ask { return ethrpc.Ask{Contract: a.Contract, Getter: a.Getter, ID: a.ID} }

func (a Answer) answer() ethrpc.Answer {
	if a.Error != "" {
		return ethrpc.Answer{Err: errors.New(a.Error)}
	}
	return ethrpc.Answer{Allowed: a.Allowed}
}
