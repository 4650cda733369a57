package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// bug is one row of the table.
type bug struct {
	Bug   string   // a sentence
	File  string   // to change
	Find  string   // text that must occur once in the file
	Put   string   // its replacement
	First string   // a -run pattern of tests that find it quickly; they run first
	Tests []string // packages whose tests must find it, in order
}

// load reads the table and returns the chosen bugs. The error names every bug that cannot be put in.
func load(path string, chosen *regexp.Regexp) (bugs []bug, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the bugs: %w", err)
	}
	var all []bug
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the bugs: %w", err)
	}
	var wrong []error
	for _, b := range all {
		if _, err := b.put(); err != nil {
			wrong = append(wrong, fmt.Errorf("the bug %q: %w", b.Bug, err))
		}
		if chosen.MatchString(b.Bug) {
			bugs = append(bugs, b)
		}
	}
	return bugs, errors.Join(wrong...)
}

// put returns the file with the bug in it.
func (b bug) put() ([]byte, error) {
	if b.Bug == "" || b.Find == b.Put || len(b.Tests) == 0 {
		return nil, errors.New("it needs bug, find and put that differ, and tests")
	}
	text, err := os.ReadFile(b.File)
	if err != nil {
		return nil, fmt.Errorf("reading its file: %w", err)
	}
	if n := strings.Count(string(text), b.Find); n != 1 {
		return nil, fmt.Errorf("%s has the text %d times, want once: %s", b.File, n, b.Find)
	}
	return []byte(strings.Replace(string(text), b.Find, b.Put, 1)), nil
}

// overlay writes the file for go's -overlay into dir, and returns its name.
func (b bug) overlay(dir string) (string, error) {
	text, err := b.put()
	if err != nil {
		return "", err
	}
	file, err := filepath.Abs(b.File)
	if err != nil {
		return "", err
	}
	changed, list := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
	if err != nil {
		return "", err
	}
	return list, errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(list, replace, 0o600))
}
