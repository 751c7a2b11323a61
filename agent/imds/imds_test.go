package imds_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/agent/imds"
)

// service answers as EC2 documents it: nothing without a token.
type service struct {
	userData string
	// trouble are status codes for the first requests; 0 is a connection that is
	// cut, 1 no answer at all, 2 a token that is too long, 200 what is asked for.
	trouble []int
	asked   []string
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.Method+" "+r.URL.String())
	if len(s.trouble) > 0 {
		code := s.trouble[0]
		s.trouble = s.trouble[1:]
		switch code {
		case 0:
			return nil, io.ErrUnexpectedEOF
		case 1:
			<-r.Context().Done()
			return nil, r.Context().Err()
		case 2:
			return answer(http.StatusOK, strings.Repeat("t", 1<<10+1)), nil
		case http.StatusOK:
			return s.serve(r), nil
		}
		return answer(code, "no"), nil
	}
	return s.serve(r), nil
}

func (s *service) serve(r *http.Request) *http.Response {
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "60":
		return answer(http.StatusOK, "a-token")
	case r.Header.Get("X-aws-ec2-metadata-token") != "a-token":
		return answer(http.StatusUnauthorized, "")
	case r.URL.Path != "/latest/user-data" || s.userData == "absent":
		return answer(http.StatusNotFound, "")
	}
	return answer(http.StatusOK, s.userData)
}

func answer(code int, body string) *http.Response {
	h := http.Header{"Location": {"http://127.0.0.1:1/elsewhere"}}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

const limit = 32

func read(t *testing.T, s *service) (data []byte, failures int, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		c := imds.Client{Base: imds.Base, Transport: s, Report: func(error) { failures++ }}
		data, err = c.UserData(ctx, limit)
		took = time.Since(began)
	})
	return data, failures, took, err
}

func TestUserData(t *testing.T) {
	s := &service{userData: strings.Repeat("u", limit)}
	data, failures, _, err := read(t, s)
	if err != nil || string(data) != s.userData || failures != 0 {
		t.Errorf("got %q, %v after %d failures", data, err, failures)
	}
	if want := "PUT http://169.254.169.254/latest/api/token GET http://169.254.169.254/latest/user-data"; strings.Join(s.asked, " ") != want {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
}

// What passes is asked again; a redirect is no answer, and is not followed.
func TestTriesAgain(t *testing.T) {
	for name, trouble := range map[string][]int{
		"a service that comes up":        {0, 0, 0, 503},
		"throttled":                      {429, 429},
		"no answer":                      {1},
		"a token that has just run out":  {401},
		"a redirect":                     {302, 301, 307},
		"no right to a token for a time": {403},
	} {
		s := &service{userData: "u", trouble: trouble}
		data, failures, _, err := read(t, s)
		if err != nil || string(data) != "u" || failures != len(trouble) {
			t.Errorf("%s: %q, %v after %d failures", name, data, err, failures)
		}
		for _, asked := range s.asked {
			if !strings.Contains(asked, "169.254.169.254") {
				t.Errorf("%s: asked %s", name, asked)
			}
		}
	}
}

// A service that has a token to give and then fails passes too, and a token that
// is too long is not kept.
func TestTriesAgainFromTheToken(t *testing.T) {
	for name, c := range map[string]struct {
		trouble []int
		asked   string
	}{
		"user data that fails":   {[]int{200, 500}, "PUT GET PUT GET"},
		"a token without an end": {[]int{2}, "PUT PUT GET"},
	} {
		s := &service{userData: "u", trouble: c.trouble}
		data, failures, _, err := read(t, s)
		methods := make([]string, len(s.asked))
		for i, asked := range s.asked {
			methods[i], _, _ = strings.Cut(asked, " ")
		}
		if err != nil || string(data) != "u" || failures != 1 || strings.Join(methods, " ") != c.asked {
			t.Errorf("%s: %q, %v after %d failures, asked %v", name, data, err, failures, methods)
		}
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	if imds.Transport().(*http.Transport).Proxy != nil {
		t.Error("a proxy of the environment's is asked")
	}
}

// What does not pass is an error at once.
func TestUnusable(t *testing.T) {
	for name, userData := range map[string]string{"none": "absent", "empty": "", "too long": strings.Repeat("u", limit+1)} {
		_, failures, took, err := read(t, &service{userData: userData})
		if !errors.Is(err, imds.ErrUserData) || failures != 0 || took > time.Second {
			t.Errorf("%s: %v after %d failures and %s", name, err, failures, took)
		}
	}
}

func TestGivesUp(t *testing.T) {
	_, failures, took, err := read(t, &service{trouble: make([]int, 1000)})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, io.ErrUnexpectedEOF) || took != time.Minute || failures < 10 {
		t.Errorf("%v after %d failures and %s", err, failures, took)
	}
}

// Over a real connection, bytes that never end are not waited for.
func TestEndlessAnswer(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			io.WriteString(w, "a-token") //nolint:errcheck // the client's error tells
			return
		}
		defer close(ended)
		for {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 4<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c := imds.Client{Base: server.URL, Transport: imds.Transport(), Report: func(err error) { t.Errorf("a try failed: %v", err) }}
	if _, err := c.UserData(t.Context(), limit); !errors.Is(err, imds.ErrUserData) {
		t.Errorf("error %v", err)
	}
	<-ended
}
