package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

const maxSecret = 64 << 10

// envName is strict so that a key or URL pasted in a variable's place is refused, not shown and not silently unset.
var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// url is a secret URL from the one key of three that gives it, or "" and a problem.
func (r resolver) url(at, text, env, file string) string {
	var from []string
	for key, v := range map[string]string{"url": text, "url_env": env, "url_file": file} {
		if v != "" || r.given(at+"."+key) {
			from = append(from, key)
		}
	}
	if len(from) != 1 {
		r.add(at+".url", "exactly one of url, url_env and url_file must be given")
		return ""
	}
	at += "." + from[0]
	if r.bad(at) {
		return ""
	}
	v := text
	var err error
	switch from[0] {
	case "url_env":
		v, err = r.variable(env)
		if err == nil && v == "" {
			err = fmt.Errorf("the environment variable %s is not set or empty", env)
		}
	case "url_file":
		v, err = r.secretFile(file)
	}
	if err != nil {
		r.add(at, "%s", err)
		return ""
	}
	if msg := checkURL(v); msg != "" {
		r.add(at, "%s", msg)
	}
	return v
}

func (r resolver) apiKey(f fileAPI) sanitize.Secret {
	at := "api.api_key_env"
	var v string
	var err error
	switch {
	case r.given(at) && r.given("api.api_key_file"):
		r.add("api.api_key_file", "must not be given together with api_key_env")
	case r.given("api.api_key_file"):
		at = "api.api_key_file"
		v, err = r.secretFile(f.APIKeyFile)
	case f.APIKeyEnv != "":
		v, err = r.variable(f.APIKeyEnv)
	}
	if err != nil {
		r.add(at, "%s", err)
	}
	return sanitize.NewSecret(v)
}

// variable is the trimmed value of an environment variable; "" where it is not set.
func (r resolver) variable(name string) (string, error) {
	if !envName.MatchString(name) {
		return "", errors.New("must be the name of an environment variable, in capital letters, digits and _; it is not shown, in case it is the secret itself")
	}
	if r.env.Lookup == nil {
		return "", nil
	}
	v, _ := r.env.Lookup(name)
	v = strings.TrimSpace(v)
	if strings.ContainsFunc(v, isControl) {
		return "", fmt.Errorf("the environment variable %s has line breaks or control characters inside", name)
	}
	return v, nil
}

// secretFile is the trimmed content of a file, never empty.
func (r resolver) secretFile(name string) (string, error) {
	if strings.Contains(name, "://") || strings.HasPrefix(name, "phak_") {
		return "", errors.New("must be the name of a file that holds the secret, not the secret itself")
	}
	r.secrets = append(r.secrets, r.abs(name))
	data, err := readFile(r.abs(name), maxSecret)
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

// readFile reads a regular file of at most limit bytes: a pipe or a terminal would block for ever.
// Its errors do not name the file.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return data, nil
}
