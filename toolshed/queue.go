package toolshed

import (
	"context"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/queue"
)

// denoQueue is the queue that messages of atomic writes come into.
const denoQueue = "deno"

// openKVAndQueue opens both: each is given what it needs of the other.
func (r *Root) openKVAndQueue(ctx context.Context) error {
	messages, err := r.openBounded(ctx, queue.Schema, 1<<30)
	if err != nil {
		return err
	}
	entries, err := r.openBounded(ctx, kv.Schema, 1<<30)
	if err != nil {
		return err
	}
	q, s := queue.New(messages, r.Now, r.Random), kv.New(entries, r.Now)
	kv.Register(r.mount("kv", mount.Limits{BodyBytes: kv.MaxValueBytes}), s)
	queue.Register(r.mount("queue", mount.Limits{BodyBytes: queue.MaxBodyBytes}), q)
	r.background(func(ctx context.Context) { s.Run(ctx, posts{q}, r.complain("kv")) })
	r.background(func(ctx context.Context) { q.Run(ctx, undelivered{s}, r.complain("queue")) })
	r.queue = q
	return nil
}

// posts gives the messages of atomic writes to the queue.
type posts struct{ queue *queue.Queue }

var _ kv.Queue = posts{}

// Post takes one in, unless it was before.
func (p posts) Post(ctx context.Context, m kv.Message) error {
	_, _, err := p.queue.Enqueue(ctx, queue.Job{
		Queue: denoQueue, ContentType: jsvalue.MediaType, Body: m.Payload, DueAt: m.DueAt, Backoff: m.Backoff,
		Key: m.ID, Undelivered: m.Undelivered,
	})
	return err
}

// undelivered writes dead messages of atomic writes under the keys that were
// named.
type undelivered struct{ kept *kv.Store }

var _ queue.Undelivered = undelivered{}

// Undelivered writes one. The keys were judged when the message was taken in.
func (u undelivered) Undelivered(ctx context.Context, m queue.Message) error {
	for _, k := range m.Undelivered {
		_, err := u.kept.Put(ctx, kv.Mutation{Key: k, Value: kv.Value{Encoding: kv.V8, Data: m.Body}}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}
