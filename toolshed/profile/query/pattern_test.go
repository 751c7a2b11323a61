package query_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// asked answers a query over one long text, a hundred times.
func asked(ctx context.Context, t *testing.T, made string) (*query.Result, error) {
	t.Helper()
	q, err := sparql.Parse("SELECT (COUNT(*) AS ?n) { ?x <http://e/p> ?v VALUES ?i {" + strings.Repeat(" 1", 100) + "} FILTER(" + made + ") }")
	if err != nil {
		t.Fatal(err)
	}
	long := list{{Subject: rdf.NewIRI("http://e/x"), Predicate: rdf.NewIRI("http://e/p"), Object: rdf.Text(strings.Repeat("a", 60_000))}}
	return query.Run(ctx, long, q, query.Limits{Rows: 10, Bytes: 1 << 20}, time.Now())
}

// A query ends with its context however few of its solutions there are, where
// each takes long.
func TestLongTextsEndWithTheContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, made := range []string{
		`REGEX(CONCAT(?v, STR(?i)), "(a|aa)*b")`, `REPLACE(CONCAT(?v, STR(?i)), "a+b", "") = "x"`, `UCASE(CONCAT(?v, STR(?i))) = "x"`,
	} {
		if r, err := asked(ended, t, made); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after the end: %v, error %v", made, r, err)
		}
		if r, err := asked(t.Context(), t, made); err != nil || len(r.Rows) != 1 {
			t.Errorf("%s: %v, error %v", made, r, err)
		}
	}
}

// A regular expression that could search one text for long is refused, and one
// of many states is none.
func TestCostlyPatterns(t *testing.T) {
	for pattern, want := range map[string]error{"(a?){400}a{400}b": query.ErrPattern, "(a?){10}a{10}b": nil} {
		if _, err := asked(t.Context(), t, `REGEX(?v, "`+pattern+`")`); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", pattern, err, want)
		}
	}
	many := strings.Repeat("a{1000}", 50)
	if r, err := asked(t.Context(), t, `COALESCE(REGEX(?v, CONCAT("`+many+`", STR(?i))), true)`); err != nil || r.Rows[0][0].Value != "100" {
		t.Errorf("%v, error %v", r, err)
	}
	if _, err := asked(t.Context(), t, `REGEX(?v, "`+many+`")`); !strings.Contains(fmt.Sprint(err), "states") {
		t.Errorf("error %v", err)
	}
}

// REPLACE finds what is to be found, however much.
func TestReplaceAll(t *testing.T) {
	for made, want := range map[string]string{
		`REPLACE(?v, "(a)(a)", "$2$1b") = REPLACE(?v, "aa", "aab")`: "100", `STRLEN(REPLACE(?v, "a", "bc")) = 120000`: "100",
		`REPLACE("abcabc", "b(.)", "[$1$0$9]") = "a[cbc]a[cbc]"`: "100", `REPLACE("añb", "ñ", "$0$0") = "aññb"`: "100", `REPLACE("abc", "x", "y") = "abc"`: "100",
	} {
		if r, err := asked(t.Context(), t, made); err != nil || r.Rows[0][0].Value != want {
			t.Errorf("%s: %v, error %v", made, r, err)
		}
	}
}
