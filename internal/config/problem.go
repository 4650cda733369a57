package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Problem is one thing wrong with a configuration. Line is 0 where the file has none to point at.
type Problem struct {
	Line    int
	Path    string // such as chains[0].providers[1].url; empty: the file as a whole
	Message string
}

func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// Problems is everything wrong with a configuration, by line; its Error has one line for each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// doc is what is known of one file: where each key stands, and what is wrong.
type doc struct {
	env      Env
	lines    map[string]int // by path
	problems Problems
	seen     map[Problem]bool // by line and path, without the message
	secrets  []string         // the files that secrets were read from
}

func newDoc(env Env) *doc {
	if env.Now == nil {
		env.Now = time.Now
	}
	return &doc{env: env, lines: map[string]int{}, seen: map[Problem]bool{}}
}

// given tells whether the file has a value at path.
func (d *doc) given(path string) bool { return d.lines[path] > 0 }

// add notes a problem at path, on its line or that of what encloses it. The first at a place wins:
// what follows from a value that could not be read is not reported.
func (d *doc) add(path, format string, args ...any) {
	d.addAt(d.lineOf(path), path, format, args...)
}

// check adds a problem at path unless ok.
func (d *doc) check(ok bool, path, format string, args ...any) {
	if !ok {
		d.add(path, format, args...)
	}
}

// bad tells whether add noted a problem at path.
func (d *doc) bad(path string) bool { return d.seen[Problem{Line: d.lineOf(path), Path: path}] }

func (d *doc) lineOf(path string) int {
	for path != "" && !d.given(path) {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.lines[path]
}

func (d *doc) addAt(line int, path, format string, args ...any) {
	p := Problem{Line: line, Path: path}
	if !d.seen[p] {
		d.seen[p] = true
		p.Message = fmt.Sprintf(format, args...)
		d.problems = append(d.problems, p)
	}
}

// maxProblems bounds what is shown of a file that is something else altogether.
const maxProblems = 100

func (d *doc) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if n := len(d.problems) - maxProblems; n > 0 {
		return append(d.problems[:maxProblems:maxProblems], Problem{Message: fmt.Sprintf("and %d more", n)})
	}
	return d.problems
}
