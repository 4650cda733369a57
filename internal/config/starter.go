package config

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// Answers are the input of Starter.
type Answers struct {
	Chain     string   // as the API calls it
	ChainID   uint64   // 0: that of the built-in configuration
	Contracts []string // addresses; empty: all that the API lists
	Provider  string   // URL of a JSON-RPC endpoint; empty: those of the built-in configuration
	State     string   // path of the state file; empty: in memory
}

//go:embed starter.yaml.tmpl
var starterText string

var starter = template.Must(template.New("").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(starterText))

// BuiltIn reports whether the built-in configuration has the chain.
func BuiltIn(chain string) bool {
	return slices.ContainsFunc(defaults().Chains, func(c Chain) bool { return c.Name == chain })
}

// Starter returns a configuration with a comment for each key, to begin with. It is checked as a file in env.Dir would be.
func Starter(a Answers, env Env) ([]byte, error) {
	type provider struct{ Name, URL string }
	values := struct {
		Answers
		Providers []provider
	}{Answers: a}
	for _, c := range defaults().Chains {
		if c.Name != a.Chain {
			continue
		}
		if a.ChainID == 0 {
			values.ChainID = c.ChainID
		}
		for _, p := range c.Providers {
			values.Providers = append(values.Providers, provider{p.Name, p.URL.Reveal()})
		}
	}
	if a.Provider != "" {
		values.Providers = []provider{{"main", a.Provider}}
	}
	var b strings.Builder
	if err := starter.Execute(&b, values); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if _, err := Parse([]byte(b.String()), env); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}
