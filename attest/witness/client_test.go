package witness_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/witness"
)

// ask asks a witness that answers as it likes.
func ask(t *testing.T, l *logtest.Log, answer http.HandlerFunc) error {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := &witness.Client{URL: server.URL, Key: l.Witnesses[0].Key, HTTP: server.Client()}
	prove := func(_ context.Context, from int64) (tlog.TreeProof, error) { return l.Growth(from), nil }
	signed, err := checkpoint.Sign(l.Head(), l.Signer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Cosign(ctx, l.Signer.Key, signed, prove)
	return err
}

// grown is a log with a witness, of some entries.
func grown(t *testing.T) *logtest.Log {
	l := logtest.New(t, 1)
	for n := range 5 {
		l.Add(fmt.Append(nil, n))
	}
	return l
}

// A witness that says another size each time is asked twice and no more.
func TestClientAsksTwice(t *testing.T) {
	asked := 0
	err := ask(t, grown(t), func(rw http.ResponseWriter, _ *http.Request) {
		asked++
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", asked)
	})
	var refusal *witness.StatusError
	if !errors.As(err, &refusal) || refusal.Code != http.StatusConflict || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// One line is a cosignature: more would stand in the log's name in what is
// shown to everybody.
func TestClientTakesOneLine(t *testing.T) {
	l := grown(t)
	line, err := checkpoint.Cosign(l.Head(), l.Witnesses[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer string
		good   bool
	}{
		"the cosignature":       {string(line), true},
		"nothing":               {"", false},
		"and a stranger's":      {string(line) + "\u2014 stranger.example AAAAAAAA\n", false},
		"the cosignature twice": {string(line) + string(line), false},
	} {
		err := ask(t, l, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, c.answer) })
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An answer without an end is not read to it.
func TestClientReadsNoEndlessAnswer(t *testing.T) {
	err := ask(t, grown(t), func(rw http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := rw.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
