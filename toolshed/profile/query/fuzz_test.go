package query

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// A query that is read is answered, or refused for what it would take; and
// whatever the order of the facts, the answer is the same.
func FuzzRun(f *testing.F) {
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		f.Fatal(err)
	}
	var all []theirs
	if err := json.Unmarshal(b, &all); err != nil {
		f.Fatal(err)
	}
	for _, c := range all {
		f.Add(c.Query)
	}
	g := facts(f)
	other := slices.Clone(g)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	f.Fuzz(func(t *testing.T, text string) {
		q, err := sparql.Parse(text)
		if err != nil {
			return
		}
		answer := func(g Graph) ([]string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := Run(ctx, g, q, Limits{Rows: 1000, Bytes: 1 << 20}, time.Unix(0, 0))
			if err != nil {
				return nil, err
			}
			rows := mine(r)
			slices.Sort(rows)
			return rows, nil
		}
		first, err := answer(g)
		_, refused := errors.AsType[*sparql.Error](err)
		if err != nil && !refused && !errors.Is(err, ErrRows) && !errors.Is(err, ErrMemory) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%q: %v", text, err)
		}
		second, again := answer(other)
		upper := strings.ToUpper(text)
		// These pick what comes first.
		picks := strings.Contains(upper, "LIMIT") || strings.Contains(upper, "OFFSET") || strings.Contains(upper, "SAMPLE") ||
			strings.Contains(upper, "GROUP_CONCAT") || strings.Contains(upper, "SUM") || strings.Contains(upper, "AVG")
		if err == nil && again == nil && !picks && !slices.Equal(first, second) {
			t.Errorf("%q: %q in one order, %q in another", text, first, second)
		}
	})
}
