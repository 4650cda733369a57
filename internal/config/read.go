package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// read parses data as one document and returns its root, or nil and a problem.
func (d *doc) read(data []byte) (root *yaml.Node) {
	refuse := func(line int, format string, args ...any) *yaml.Node {
		d.addAt(line, "", format, args...)
		return nil
	}
	// The parser panics where it meets a bug of its own.
	defer func() {
		if r := recover(); r != nil {
			root = refuse(0, "the YAML parser cannot read the file")
		}
	}()
	if len(data) > maxSize {
		return refuse(0, "the file is larger than 1 MiB")
	}
	if line := badLine(data); line > 0 {
		return refuse(line, "must be UTF-8 text without control characters")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	err := dec.Decode(&first)
	if errors.Is(err, io.EOF) || err == nil && isNull(first.Content[0]) {
		return refuse(0, "the file has no settings; run without a file for the built-in default")
	}
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			return refuse(second.Line, "a second document begins here, and only one is allowed")
		}
	}
	if !errors.Is(err, io.EOF) {
		line, msg := syntax(err, data)
		return refuse(line, "%s", msg)
	}
	d.lines[""] = first.Content[0].Line
	return first.Content[0]
}

func badLine(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if !utf8.Valid(line) || bytes.ContainsFunc(bytes.Trim(line, "\r\n"), func(r rune) bool { return r != '\t' && isControl(r) }) {
			return n
		}
	}
	return 0
}

var (
	yamlLine      = regexp.MustCompile(`^line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

const starSentence = "a value begins with * or & outside quotes: put it in quotes"

// syntax splits the parser's error into line and sentence. The line may be that of the block's start.
func syntax(err error, data []byte) (int, string) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		// The anchor is text from the file, which may be a secret: it serves to find the line, and is not shown.
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		return 1 + bytes.Count(before, []byte("\n")), starSentence
	}
	line := 1 // the parser leaves it out
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	if msg == "did not find expected alphabetic or numeric character" {
		return line, starSentence
	}
	return line, "not valid YAML here or a little below: " + sanitize.Plain(msg)
}
