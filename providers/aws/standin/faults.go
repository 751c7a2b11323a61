package standin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// trouble is what was asked to go wrong.
type trouble struct {
	// next are the faults that meet the next request of their kind.
	next map[providertest.FaultKind]bool
	// lastKey is the access key that was used last; refusedKey is not known any
	// more.
	lastKey, refusedKey string
	throttledUntil      time.Time
	// full are the zones without room; "" for all of them.
	full map[string]bool
	// late are ids that are in no answer before lagUntil.
	lagUntil time.Time
	late     map[string]bool
	// authorization is one that moto takes, for requests of the proxy's own.
	authorization string
}

// Inject brings one fault about.
func (c *Cloud) Inject(ctx context.Context, f providertest.Fault) error {
	switch f.Kind {
	case providertest.FaultDrift:
		return c.drift(ctx, f)
	case providertest.FaultCrash:
		return c.crash(ctx, f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.trouble
	switch f.Kind {
	case providertest.FaultLostAnswer, providertest.FaultPartial, providertest.FaultPartialDelete, providertest.FaultQuota,
		providertest.FaultDenied, providertest.FaultUnavailable, providertest.FaultHang:
		if t.next == nil {
			t.next = map[providertest.FaultKind]bool{}
		}
		t.next[f.Kind] = true
	case providertest.FaultCapacity:
		t.full = map[string]bool{"": true}
	case providertest.FaultThrottle:
		t.throttledUntil = c.o.Now().Add(time.Second)
	case providertest.FaultUnauthenticated:
		t.refusedKey = t.lastKey
	case providertest.FaultLag:
		t.lagUntil, t.late = c.o.Now().Add(f.For), map[string]bool{}
	default:
		return fmt.Errorf("%w: %s", providertest.ErrNoSuchFault, f.Kind)
	}
	return nil
}

// Clear ends every fault that is left.
func (c *Cloud) Clear(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = trouble{lastKey: c.trouble.lastKey, authorization: c.trouble.authorization}
	return nil
}

// FillZone leaves no room in one zone, until Clear.
func (c *Cloud) FillZone(zone string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble.full == nil {
		c.trouble.full = map[string]bool{}
	}
	c.trouble.full[zone] = true
}

// due reports whether a fault meets this request; if so, it is over.
func (c *Cloud) due(kind providertest.FaultKind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.trouble.next[kind]
	delete(c.trouble.next, kind)
	return due
}

// refusal is why no request is answered now. The codes are those of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
func (c *Cloud) refusal(in *call) *refusal {
	if c.due(providertest.FaultUnavailable) {
		return refuse(http.StatusServiceUnavailable, "Unavailable", "The server is overloaded and can't handle the request.")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.trouble
	if in.service == "ec2" {
		t.lastKey, t.authorization = in.key, in.r.Header.Get("Authorization")
	}
	switch {
	case in.key == "":
		return refuse(http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials")
	case t.refusedKey != "" && t.refusedKey == in.key:
		return refuse(http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials")
	case c.o.Now().Before(t.throttledUntil):
		return tooMany(in)
	}
	return c.take(in)
}

// machine asks moto for the instance of a machine.
func (c *Cloud) machine(ctx context.Context, f providertest.Fault) (id string, found *node, authorization string, err error) {
	c.mu.Lock()
	authorization = c.trouble.authorization
	c.mu.Unlock()
	n, err := c.ask(ctx, authorization, "DescribeInstances", url.Values{
		"Filter.1.Name": {"tag:" + c.o.MachineTag}, "Filter.1.Value.1": {string(f.Machine)},
		"Filter.2.Name": {"instance-state-name"}, "Filter.2.Value.1": {"running"},
	})
	if err != nil {
		return "", nil, "", err
	}
	found = n.at("reservationSet", "item", "instancesSet", "item")
	if id = found.value("instanceId"); id == "" {
		return "", nil, "", fmt.Errorf("machine %s does not run here", f.Machine)
	}
	return id, found, authorization, nil
}

// drift takes a tag off the instance and its network interface, and lets
// anybody ask for its metadata without a token.
func (c *Cloud) drift(ctx context.Context, f providertest.Fault) error {
	id, found, authorization, err := c.machine(ctx, f)
	if err != nil {
		return err
	}
	form := url.Values{"ResourceId.1": {id}, "Tag.1.Key": {c.o.DriftTag}}
	if nic := found.value("networkInterfaceSet", "item", "networkInterfaceId"); nic != "" {
		form.Set("ResourceId.2", nic)
	}
	if _, err := c.ask(ctx, authorization, "DeleteTags", form); err != nil {
		return err
	}
	_, err = c.ask(ctx, authorization, "ModifyInstanceMetadataOptions", url.Values{"InstanceId": {id}, "HttpTokens": {"optional"}})
	return err
}

// crash stops an instance from the inside. The reason's code is one of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
func (c *Cloud) crash(ctx context.Context, f providertest.Fault) error {
	id, _, authorization, err := c.machine(ctx, f)
	if err != nil {
		return err
	}
	if _, err := c.ask(ctx, authorization, "StopInstances", url.Values{"InstanceId.1": {id}}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[id] = stateReason{"Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"}
	return nil
}

// Spoil has a machine's data volume deleted with its instance, and leaves a
// network interface of the machine behind, as somebody might who looks around
// in the console.
func (c *Cloud) Spoil(ctx context.Context, id providers.MachineID) error {
	instance, found, authorization, err := c.machine(ctx, providertest.Fault{Machine: id})
	if err != nil {
		return err
	}
	if _, err := c.ask(ctx, authorization, "ModifyInstanceAttribute", url.Values{
		"InstanceId": {instance}, "BlockDeviceMapping.1.DeviceName": {"/dev/sdf"}, "BlockDeviceMapping.1.Ebs.DeleteOnTermination": {"true"},
	}); err != nil {
		return err
	}
	made, err := c.ask(ctx, authorization, "CreateNetworkInterface", url.Values{"SubnetId": {found.value("subnetId")}})
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, authorization, "CreateTags", url.Values{
		"ResourceId.1": {made.value("networkInterface", "networkInterfaceId")}, "Tag.1.Key": {c.o.MachineTag}, "Tag.1.Value": {string(id)},
	})
	return err
}
