package web

import (
	"errors"
	"fmt"
	"net/http"
)

// Config is the configuration that audits run under.
type Config struct {
	Running func() string // which one it is, in a sentence without secrets
	Reload  func() error  // reads it again, and tells why that changed nothing; nil: it cannot be
}

// ErrReloadOff is why Config.Reload did not even try.
var ErrReloadOff = errors.New("reloading over HTTP is off: set web.reload to true and send SIGHUP, or restart")

// reload answers POST /-/reload. Whoever may ask sees what is wrong with the configuration; no page of another site may.
func reload(c Config) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		err := ErrReloadOff
		if c.Reload != nil {
			err = c.Reload()
		}
		switch {
		case errors.Is(err, ErrReloadOff):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, fmt.Sprintf("not reloaded; the running configuration %s\n%v", c.Running(), err), http.StatusBadRequest)
		default:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "reloaded; the running configuration %s\n", c.Running())
		}
	}))
}
