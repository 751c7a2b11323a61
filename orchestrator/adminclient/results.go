package adminclient

import (
	"context"
	"fmt"
	"iter"
	"net/http"
)

const resultsPath = "/v1/results"

// ResultsFrom reads a page of the chain of results. Errors are those of every
// call.
func (c *Client) ResultsFrom(ctx context.Context, index uint64) (page Results, err error) {
	return page, c.call(ctx, http.MethodGet, fmt.Sprintf("%s?from=%d&limit=%d", resultsPath, index, resultsPage), nil, &page)
}

// resultsPage is how many results are asked for at once.
const resultsPage = 200

// Results reads the chain from its first entry up to a count. It ends sooner
// where the control plane has no more. Errors are those of every call.
func (c *Client) Results(ctx context.Context, count uint64) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		for next := uint64(0); next < count; {
			page, err := c.ResultsFrom(ctx, next)
			if err != nil {
				yield(Result{}, err)
				return
			}
			if len(page.Entries) == 0 {
				return
			}
			for _, r := range page.Entries[:min(uint64(len(page.Entries)), count-next)] {
				if !yield(r, nil) {
					return
				}
			}
			next += uint64(len(page.Entries))
		}
	}
}

// Result is the newest result of an instance's machine as it runs now. Errors
// are those of every call.
func (c *Client) Result(ctx context.Context, id string) (r Result, err error) {
	return r, c.call(ctx, http.MethodGet, instancePath(id)+"/result", nil, &r)
}
