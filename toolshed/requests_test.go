package toolshed

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

func askNamed(t *testing.T, h http.Handler, id string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/x/secret?q=secret", nil)
	r.Header.Set(requestIDHeader, id)
	rec := httptest.NewRecorder()
	named(h).ServeHTTP(rec, r)
	return rec
}

// A request keeps its own name where that is one, and else is given another.
func TestRequestIDs(t *testing.T) {
	var inside string
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { inside = mount.RequestID(r.Context()) })
	for id, kept := range map[string]bool{
		"abc-DEF_123": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a\nb": false, `"`: false, "é": false,
	} {
		got := askNamed(t, h, id).Header().Get(requestIDHeader)
		if (got == id) != kept || !validRequestID.MatchString(got) || got != inside {
			t.Errorf("%q became %q, inside %q", id, got, inside)
		}
	}
	if mount.RequestID(context.Background()) != "" {
		t.Error("a request that there is none of has a name")
	}
}

// A handler that panics is a 500, and what it panicked with stays inside.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		name   string
		begins bool
		with   any
		cutOff bool
		level  zapcore.Level
	}{
		{"before the answer", false, "a secret", false, zap.ErrorLevel},
		{"within it", true, "a secret", true, zap.WarnLevel},
		{"to cut it off", true, http.ErrAbortHandler, true, zap.WarnLevel},
	} {
		t.Run(c.name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			mux := http.NewServeMux()
			mux.HandleFunc("GET /x/{key}", func(w http.ResponseWriter, _ *http.Request) {
				if c.begins {
					w.Write([]byte("begun"))
				}
				panic(c.with)
			})
			defer func() {
				if p := recover(); (p != nil) != c.cutOff {
					t.Errorf("panics on with %v", p)
				}
				all := logs.All()
				if len(all) != 1 || all[0].Level != c.level {
					t.Fatalf("logged %v", all)
				}
				for name, value := range all[0].ContextMap() {
					if text, ok := value.(string); ok && strings.Contains(text, "secret") {
						t.Errorf("%s is logged as %q", name, text)
					}
				}
				if route := all[0].ContextMap()["route"]; route != "GET /x/{key}" {
					t.Errorf("route %v", route)
				}
			}()
			rec := askNamed(t, logged(mux, (&Root{mux: mux}).route, zap.New(core)), "")
			if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "secret") || !strings.Contains(rec.Body.String(), `"code"`) {
				t.Errorf("answered %d %s", rec.Code, rec.Body)
			}
		})
	}
}

func openRoot(t *testing.T) *Root {
	t.Helper()
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := Open(t.Context(), Options{Data: data, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(errors.Join(err, data.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(root.Close(), data.Close()); err != nil {
			t.Error(err)
		}
	})
	return root
}

// Every operation says whose it is: one that forgot is the owner's alone, which
// nobody would notice.
func TestOperationsDeclareScopes(t *testing.T) {
	root := openRoot(t)
	for path, item := range root.api.OpenAPI().Paths {
		for _, op := range operationsOf(item) {
			if op.Security == nil {
				t.Errorf("%s %s declares no scope", op.Method, path)
			}
		}
	}
}
