package transport

import "github.com/kms-auditor/kms-auditor/internal/sanitize"

// CheckSingle checks the answer to a single call.
func CheckSingle(body []byte, id string) error {
	return CheckAnswer(body, id)
}

// CheckAnswer checks the answer to a batch with ids.
func CheckAnswer(body []byte, ids ...string) error {
	places := map[string]int{}
	for i, id := range ids {
		places[id] = i
	}
	_, err := new(Client).check(body, places)
	return err
}

// Kinds is how an error is classified.
type Kinds struct{ Transient, Pruned, UnknownBlock, FormRefused, Revert, BatchRefused, TooWide bool }

func kindsOf(err error) Kinds {
	return Kinds{IsTransient(err), IsPruned(err), IsUnknownBlock(err), IsFormRefused(err), IsRevert(err), isBatchRefused(err), IsTooWide(err)}
}

// Answered classifies a JSON-RPC error object; hidden is a secret to redact.
func Answered(code int, text, hidden string) (Kinds, error) {
	err := (&Client{redact: sanitize.NewRedactor(hidden)}).answerError(code, text)
	return kindsOf(err), err
}

// Refused classifies an HTTP answer; hidden is a secret to redact.
func Refused(status int, body []byte, hidden string) (Kinds, error) {
	err := &statusError{status: status, body: (&Client{redact: sanitize.NewRedactor(hidden)}).cut(body)}
	return kindsOf(err), err
}
