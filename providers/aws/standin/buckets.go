package standin

import (
	"net/http"
	"strings"
	"time"
)

// limit is a token bucket's size, and what it gets back a second.
type limit struct{ size, refill float64 }

// limits are those of single actions; the others have their category's. Each
// action has a bucket of its own:
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
var limits = map[string]limit{
	"RunInstances":       {5, 2},
	"StartInstances":     {5, 2},
	"TerminateInstances": {100, 5},
}

var (
	nonMutating = limit{100, 20}
	mutating    = limit{50, 5}
)

func limitOf(action string) limit {
	if l, ok := limits[action]; ok {
		return l
	}
	for _, prefix := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(action, prefix) {
			return nonMutating
		}
	}
	return mutating
}

type bucket struct {
	tokens float64
	at     time.Time
}

// take refuses a request for which the bucket has no token. The caller holds
// c.mu.
func (c *Cloud) take(in *call) *refusal {
	if c.o.Limits == 0 || in.service != "ec2" {
		return nil
	}
	now, l := c.o.Now(), limitOf(in.action)
	l.size, l.refill = l.size*c.o.Limits, l.refill*c.o.Limits
	b, ok := c.buckets[in.action]
	if !ok {
		b = &bucket{l.size, now}
		c.buckets[in.action] = b
	}
	b.tokens = min(l.size, b.tokens+l.refill*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return tooMany(in)
	}
	b.tokens--
	return nil
}

// tooMany is how each API says so:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html
func tooMany(in *call) *refusal {
	if in.service == "ec2" {
		return refuse(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
	}
	return refuse(http.StatusBadRequest, "RequestThrottledException", "Request limit exceeded.")
}
