package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// wantProblem fails the test unless an answer is a problem document with the
// status and the code.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var p struct {
		Status       int
		Code, Detail string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if kind := w.Header().Get("Content-Type"); kind != "application/problem+json" || w.Code != status || p.Status != status ||
		p.Code != code || p.Detail == "" {
		t.Errorf("answered %d, %s: %+v, want %d %s", w.Code, kind, p, status, code)
	}
}

// What the machine did not answer is told apart: being busy is no refusal.
func TestProxyProblems(t *testing.T) {
	machine := &relyingParty{machine: &url.URL{Scheme: "https", Host: "127.0.0.1:1"}}
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"busy":        {fmt.Errorf("%w: %w", client.ErrBusy, context.DeadlineExceeded), http.StatusServiceUnavailable, "machine-busy"},
		"refused":     {&client.RefusedError{}, http.StatusForbidden, "machine-refused"},
		"another":     {fmt.Errorf("%w: another machine", attest.ErrIdentity), http.StatusForbidden, "machine-refused"},
		"not there":   {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, http.StatusBadGateway, "machine-unreachable"},
		"cut":         {errors.New("asking the machine: EOF"), http.StatusBadGateway, "machine-unreachable"},
		"no answer":   {context.DeadlineExceeded, http.StatusGatewayTimeout, "machine-timed-out"},
		"binding":     {attest.ErrBinding, http.StatusForbidden, "machine-refused"},
		"wrong claim": {attest.ErrClaim, http.StatusForbidden, "machine-refused"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := machine.proxy(roundTripper(func(*http.Request) (*http.Response, error) { return nil, c.err }))
			w := httptest.NewRecorder()
			proxy.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:2/api/kv/x", nil))
			wantProblem(t, w, c.status, c.code)
			if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After %q", retry)
			}
		})
	}
}

// A busy machine is waited for as long as was said, and then said to be busy.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := patient{timeout: time.Minute, next: roundTripper(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})}.RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil).WithContext(t.Context()))
		if !errors.Is(err, client.ErrBusy) || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// A request that was sent to the machine may take as long as it likes.
func TestPatienceIsForTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, err := patient{timeout: time.Second, next: roundTripper(func(req *http.Request) (*http.Response, error) {
			httptrace.ContextClientTrace(req.Context()).WroteHeaderField(ownership.Header, nil)
			select {
			case <-req.Context().Done():
				return nil, req.Context().Err()
			case <-time.After(time.Hour):
				return &http.Response{StatusCode: http.StatusOK}, nil
			}
		})}.RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil).WithContext(t.Context()))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("answer %v, error %v", resp, err)
		}
	})
}

// The real client says over a connection when it sends the owner's request.
func TestOwnersRequestIsNoticed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := transport.NewClientConn(t.Context(), "http", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	noticed := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaderField: func(key string, _ []string) {
		noticed = noticed || key == ownership.Header
	}})
	for _, token := range []string{"", "token"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set(ownership.Header, token)
		}
		resp, err := conn.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() //nolint:errcheck // it is empty
		if noticed != (token != "") {
			t.Errorf("token %q: noticed %t", token, noticed)
		}
	}
}

// A machine that says it has no time for as long as was waited is not refused:
// that is a time that was up.
func TestBusyMachineExitsAsTimedOut(t *testing.T) {
	err := (&relyingParty{}).explain(fmt.Errorf("asking: %w", fmt.Errorf("%w: %w", client.ErrBusy, context.DeadlineExceeded)))
	if code := cli.ExitCode(err); code != cli.ExitTimedOut {
		t.Errorf("exit code %d, want %d", code, cli.ExitTimedOut)
	}
}

// A machine that does not take the keys refuses; any other failure of its own
// is none.
func TestMachineRefusals(t *testing.T) {
	for status, want := range map[int]int{
		http.StatusUnauthorized: cli.ExitRefused, http.StatusForbidden: cli.ExitRefused, http.StatusConflict: cli.ExitRefused,
		http.StatusInternalServerError: cli.ExitFailed,
	} {
		err := refusedByMachine(&channel.StatusError{Code: status, Body: []byte(`{"detail":"why"}`)})
		if code := cli.ExitCode(err); code != want {
			t.Errorf("%d: exit code %d, want %d", status, code, want)
		}
	}
}
