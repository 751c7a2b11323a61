package queue

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// The scopes of this API. Who writes takes messages in, who works receives and
// ends them, who manages sees all of it, deletes, and keeps schedules.
const (
	ScopeWrite  auth.Scope = "queue:write"
	ScopeWork   auth.Scope = "queue:work"
	ScopeManage auth.Scope = "queue:manage"
)

const (
	defaultLease = 30 * time.Second
	maxWait      = time.Minute
	base         = "/api/queue"
	messagePath  = base + "/{queue}/messages/{id}"
)

type handlers struct{ kept *Queue }

// Register puts the queue's operations on an API's place.
func Register(m *mount.Mount, q *Queue) {
	m.Report(q)
	h := handlers{kept: q}
	enqueue := operation(ScopeWrite, "queue-enqueue", http.MethodPost, base+"/{queue}", "Take a message in",
		http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
	enqueue.DefaultStatus = http.StatusCreated
	enqueue.RequestBody = &huma.RequestBody{
		Description: fmt.Sprintf("the message, at most %d bytes of any type", MaxBodyBytes),
		Content:     map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}
	known := m.API.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[enqueueOutput]().Field(1).Type, true, "EnqueueOutputBody")
	enqueue.Responses = map[string]*huma.Response{"200": {
		Description: "The key was known", Content: map[string]*huma.MediaType{"application/json": {Schema: known}},
	}}
	huma.Register(m.API, enqueue, h.enqueue)
	huma.Register(m.API, mount.Lasting(operation(ScopeWork, "queue-receive", http.MethodPost, base+"/{queue}/receive", "Lease messages, waiting for the first")), h.receive)
	huma.Register(m.API, streamOperation(), h.stream)
	for _, end := range []struct {
		name, summary string
	}{{"ack", "Acknowledge a message: it is done"}, {"nack", "Give a message back: it failed"}, {"extend", "Keep a message for longer"}} {
		op := operation(ScopeWork, "queue-"+end.name, http.MethodPost, messagePath+"/"+end.name, end.summary, http.StatusNotFound, http.StatusConflict)
		switch end.name {
		case "ack":
			op.DefaultStatus = http.StatusNoContent
			huma.Register(m.API, op, h.ack)
		case "nack":
			op.DefaultStatus = http.StatusNoContent
			huma.Register(m.API, op, h.nack)
		case "extend":
			huma.Register(m.API, op, h.extend)
		}
	}
	h.registerManaging(m)
	h.registerPages(m)
}

func operation(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{"queue"}, Summary: summary, Security: auth.Needs(scope),
		Errors: append(refusals, http.StatusUnprocessableEntity), RejectUnknownQueryParameters: true,
	}
}

type enqueueInput struct {
	Queue       string `path:"queue" maxLength:"64"`
	Delay       string `query:"delay" doc:"how long it waits, as 10s"`
	At          string `query:"at" format:"date-time" doc:"when it is delivered, instead of delay"`
	Priority    int    `query:"priority" minimum:"0" maximum:"9" doc:"the highest first"`
	Backoff     string `query:"backoff" doc:"the delays before each retry, as 1s,10s,1m, or none; 100ms,1s,5s,30s,1m where it is missing"`
	Key         string `header:"Idempotency-Key" maxLength:"200" doc:"another message with the same key is this one, for a week"`
	ContentType string `header:"Content-Type"`
	RawBody     []byte
}

type enqueueOutput struct {
	Status int
	Body   struct {
		ID        string `json:"id"`
		Duplicate bool   `json:"duplicate" doc:"the key was known: nothing was taken in"`
	}
}

func (h handlers) enqueue(ctx context.Context, in *enqueueInput) (*enqueueOutput, error) {
	j := Job{Queue: in.Queue, ContentType: in.ContentType, Body: in.RawBody, Priority: in.Priority, Key: in.Key}
	if len(in.RawBody) > MaxBodyBytes {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the message has more than %d bytes", MaxBodyBytes))
	}
	delay, err := duration("delay", in.Delay, 0)
	if err != nil {
		return nil, err
	}
	if delay > 0 {
		j.DueAt = h.kept.now().Add(delay)
	}
	if in.At != "" {
		if j.DueAt, err = time.Parse(time.RFC3339Nano, in.At); err != nil || delay > 0 {
			return nil, problem.Of(http.StatusUnprocessableEntity, "at: want a time, and no delay beside it")
		}
	}
	if j.Backoff, err = parseBackoff(in.Backoff); err != nil {
		return nil, err
	}
	id, duplicate, err := h.kept.Enqueue(ctx, j)
	if err != nil {
		return nil, refusal(err)
	}
	out := &enqueueOutput{Status: http.StatusCreated}
	if duplicate {
		out.Status = http.StatusOK
	}
	out.Body.ID, out.Body.Duplicate = fmt.Sprint(id), duplicate
	return out, nil
}

type receiveInput struct {
	Queue string `path:"queue" maxLength:"64"`
	Max   int    `query:"max" minimum:"1" maximum:"100" default:"1" doc:"how many at most"`
	Wait  string `query:"wait" doc:"how long to wait for the first, as 20s, a minute at most; not at all where it is missing"`
	Lease string `query:"lease" doc:"how long the receipts are good, as 30s, which it is where it is missing"`
}

type receiveOutput struct {
	Body struct {
		Messages []MessageJSON `json:"messages"`
	}
}

func (h handlers) receive(ctx context.Context, in *receiveInput) (*receiveOutput, error) {
	wait, err := duration("wait", in.Wait, 0)
	if err != nil {
		return nil, err
	}
	lease, err := duration("lease", in.Lease, defaultLease)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(wait, maxWait))
	defer cancel()
	found, err := h.kept.Receive(ctx, in.Queue, cmp.Or(in.Max, 1), lease)
	if err != nil {
		return nil, refusal(err)
	}
	out := &receiveOutput{}
	out.Body.Messages = make([]MessageJSON, 0, len(found))
	for _, m := range found {
		out.Body.Messages = append(out.Body.Messages, messageJSON(m, true))
	}
	return out, nil
}

// Delivery is one that somebody was given. The framework reads embedded fields of
// exported types alone.
type Delivery struct {
	Queue   string `path:"queue" maxLength:"64"`
	ID      string `path:"id" maxLength:"20"`
	Receipt string `query:"receipt" required:"true" minLength:"1" maxLength:"64"`
}

func (h handlers) ack(ctx context.Context, in *Delivery) (*struct{}, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Ack(ctx, in.Queue, id, in.Receipt))
}

type nackInput struct {
	Delivery
	Delay string `query:"delay" doc:"when it is tried again, instead of its schedule's next delay"`
	Body  *struct {
		Error string `json:"error,omitempty" maxLength:"500" doc:"why it failed, kept with the message"`
	} `required:"false"`
}

func (h handlers) nack(ctx context.Context, in *nackInput) (*struct{}, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	delay := time.Duration(-1)
	if in.Delay != "" {
		if delay, err = duration("delay", in.Delay, -1); err != nil {
			return nil, err
		}
	}
	reason := "the consumer gave it back"
	if in.Body != nil {
		reason = cmp.Or(in.Body.Error, reason)
	}
	return nil, refusal(h.kept.Nack(ctx, in.Queue, id, in.Receipt, reason, delay))
}

type extendInput struct {
	Delivery
	Lease string `query:"lease" doc:"from now on, as 30s, which it is where it is missing"`
}

type extendOutput struct {
	Body struct {
		LeaseEnds time.Time `json:"lease_ends"`
	}
}

func (h handlers) extend(ctx context.Context, in *extendInput) (*extendOutput, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	lease, err := duration("lease", in.Lease, defaultLease)
	if err != nil {
		return nil, err
	}
	until, err := h.kept.Extend(ctx, in.Queue, id, in.Receipt, lease)
	if err != nil {
		return nil, refusal(err)
	}
	out := &extendOutput{}
	out.Body.LeaseEnds = until
	return out, nil
}
