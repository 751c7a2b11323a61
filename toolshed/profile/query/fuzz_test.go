package query_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/query/querytest"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// A query that is read is answered, or refused for what it would take; and
// whatever the order of the facts, the answer is the same.
func FuzzRun(f *testing.F) {
	for _, c := range querytest.Cases(f) {
		f.Add(c.Query)
	}
	g := list(querytest.Facts(f))
	other := slices.Clone(g)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	f.Fuzz(func(t *testing.T, text string) {
		q, err := sparql.Parse(text)
		if err != nil {
			return
		}
		answer := func(g query.Graph) ([]string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r, err := query.Run(ctx, g, q, query.Limits{Rows: 1000, Bytes: 1 << 20}, time.Unix(0, 0))
			if err != nil {
				return nil, err
			}
			rows := querytest.Rows(r)
			slices.Sort(rows)
			return rows, nil
		}
		first, err := answer(g)
		_, refused := errors.AsType[*sparql.Error](err)
		if err != nil && !refused && !errors.Is(err, query.ErrRows) && !errors.Is(err, query.ErrMemory) && !errors.Is(err, query.ErrPattern) && !errors.Is(err, context.DeadlineExceeded) {
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
