package main

import (
	"context"
	"io"
	"time"

	"go.uber.org/zap"
)

// Main is the program, for testscript.
var Main = main

// StartProgress says every so often what an audit waits for.
func StartProgress(stderr io.Writer, log *zap.Logger, every time.Duration) (show func(chain, what string), stop func()) {
	waitingEvery = every
	return startProgress(stderr, log)
}

// ParseSince reads --since.
var ParseSince = parseSince

// ParseOutputs reads what -o is given, and returns the kinds by path.
func ParseOutputs(specs []string) (kinds map[string][]string, err error) {
	all, err := parseOutputs(specs)
	if err == nil {
		err = all.check(nil, nil)
	}
	kinds = map[string][]string{}
	for _, o := range all {
		kinds[o.path] = append(kinds[o.path], o.kind)
	}
	return kinds, err
}

// Replace writes an output to a file.
func Replace(ctx context.Context, path, text string) error {
	return replace(ctx, path, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}
