package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const maxSecret = 64 << 10

// envName is strict: a key or URL pasted in place of a variable's name must be refused and not shown.
var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// secretURL replaces the value of the one key of three by the URL itself. If it cannot, it adds a problem and sets "".
func (d *doc) secretURL(at string, s *sanitize.Secret) {
	given := slices.DeleteFunc([]string{".url", ".url_env", ".url_file"}, func(key string) bool { return !d.given(at + key) })
	if len(given) == 0 && !s.Empty() {
		return // of the built-in configuration
	}
	if len(given) != 1 {
		d.add(at+".url", "give exactly one of url, url_env and url_file")
		*s = sanitize.Secret{}
		return
	}
	at += given[0]
	v, err := d.secret(at, s.Reveal())
	switch {
	case err != nil:
	case v == "" && given[0] == ".url_env":
		err = fmt.Errorf("the environment variable %s is not set or empty", s.Reveal())
	default:
		err = checkURL(v)
	}
	if err != nil {
		d.add(at, "%s", err)
		v = ""
	}
	*s = sanitize.NewSecret(v)
}

// checkURL checks the URL of an HTTP endpoint. Its error contains no part of the URL.
func checkURL(s string) error {
	if strings.Contains(s, "${") {
		return errors.New("variables are not expanded here: give the whole value")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must be a URL that begins with http:// or https://")
	case u.Hostname() == "":
		return errors.New("the URL has no host")
	}
	return nil
}

// apiKey replaces the name of a variable or file by the key itself.
func (d *doc) apiKey(s *sanitize.Secret) {
	at, file := "api.api_key_env", "api.api_key_file"
	switch {
	case d.given(at) && d.given(file):
		d.add(file, "must not be given together with api_key_env")
		return
	case d.given(file):
		at = file
	case s.Empty():
		return
	}
	v, err := d.secret(at, s.Reveal())
	d.check(err == nil, at, "%v", err)
	*s = sanitize.NewSecret(v)
}

// secret returns the text of the key at a path, or the content of the environment variable or file that it names.
func (d *doc) secret(at, text string) (string, error) {
	switch {
	case strings.HasSuffix(at, "_env"):
		return d.variable(text)
	case strings.HasSuffix(at, "_file"):
		return d.secretFile(text)
	default:
		return text, nil
	}
}

// variable returns the trimmed value of an environment variable, or "" if it is not set.
func (d *doc) variable(name string) (string, error) {
	if !envName.MatchString(name) {
		return "", errors.New("must be the name of an environment variable, in capital letters, digits and _; it is not shown, in case it is the secret itself")
	}
	if d.env.Lookup == nil {
		return "", nil
	}
	v, _ := d.env.Lookup(name)
	v = strings.TrimSpace(v)
	if strings.ContainsFunc(v, isControl) {
		return "", fmt.Errorf("the environment variable %s has line breaks or control characters inside", name)
	}
	return v, nil
}

// secretFile returns the trimmed content of a file, which must not be empty.
func (d *doc) secretFile(name string) (string, error) {
	if strings.Contains(name, "://") || strings.HasPrefix(name, "phak_") {
		return "", errors.New("must be the name of a file that holds the secret, not the secret itself")
	}
	d.files = append(d.files, d.abs(name))
	data, err := readFile(d.abs(name), maxSecret)
	v := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading %s: %w", sanitize.Quote(name), err)
	case v == "":
		return "", fmt.Errorf("the file %s is empty", sanitize.Quote(name))
	case strings.ContainsFunc(v, isControl):
		return "", fmt.Errorf("the file %s has line breaks or control characters inside", sanitize.Quote(name))
	}
	return v, nil
}

// readFile reads a regular file of at most limit bytes. A pipe or a terminal would block for ever.
// Its errors do not name the file.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := readStart(path, limit)
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return data, err
}

// readStart reads at most limit+1 bytes of a file.
func readStart(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	return data, cause(err)
}

// cause returns err without the path, which may be a secret, or is shown already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
