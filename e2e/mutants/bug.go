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
	Bug   string   // in a sentence
	File  string   // that it is in
	Find  string   // a text of the file, which must be there once
	Put   string   // what stands in its place
	First string   // the tests to run before all others, as -run takes them: those that are quick to find it
	Tests []string // the packages whose tests must find it, in their order
}

// load reads the table, and returns the bugs chosen of it. Every bug that cannot be put in is in the error.
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
		return nil, errors.New("it needs a sentence, two texts that differ, and tests")
	}
	text, err := os.ReadFile(b.File)
	if err != nil {
		return nil, fmt.Errorf("reading its file: %w", err)
	}
	if n := strings.Count(string(text), b.Find); n != 1 {
		return nil, fmt.Errorf("%s has its text %d times, want once: %s", b.File, n, b.Find)
	}
	return []byte(strings.Replace(string(text), b.Find, b.Put, 1)), nil
}

// overlay writes into dir what the go command has to know to build with the bug, and returns the name of the file.
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
