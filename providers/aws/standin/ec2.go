package standin

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/providers/providertest"
)

// stateReason is why an instance is in its state.
type stateReason struct{ code, message string }

// cpuOptions are what moto does not keep of RunInstances.
type cpuOptions struct{ sevSNP string }

// ec2 is moto's EC2 with what it ignores.
func (c *Cloud) ec2(in *call) (answer, *refusal) {
	switch in.action {
	case "RunInstances":
		return c.runInstances(in)
	case "RegisterImage":
		return c.registerImage(in)
	case "CreateVolume":
		return c.idempotent(in, c.forward)
	case "DeleteVolume":
		if c.due(providertest.FaultPartialDelete) {
			return answer{}, refuse(http.StatusInternalServerError, "InternalError", "An internal error has occurred.")
		}
	case "AllocateAddress":
		return c.allocateAddress(in)
	case "GetInstanceTpmEkPub":
		return c.tpmKey(in)
	case "StopInstances":
		return c.power(in, c.stop)
	case "TerminateInstances":
		return c.power(in, c.end)
	case "StartInstances":
		return c.startInstances(in)
	case "DeleteSecurityGroup":
		if refused := c.groupInUse(in); refused != nil {
			return answer{}, refused
		}
	}
	if strings.HasPrefix(in.action, "Describe") {
		return c.describe(in)
	}
	return c.forward(in)
}

// describe answers what moto does, without what is late, and with what moto
// does not keep.
func (c *Cloud) describe(in *call) (answer, *refusal) {
	c.mu.Lock()
	late := map[string]bool{}
	if c.o.Now().Before(c.trouble.lagUntil) {
		late = c.trouble.late
	}
	for name, values := range in.form {
		if strings.HasPrefix(name, "InstanceId.") && late[values[0]] {
			c.mu.Unlock()
			return answer{}, refuse(http.StatusBadRequest, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", values[0])
		}
	}
	c.mu.Unlock()
	out, refused := c.forward(in)
	if refused != nil || out.status != http.StatusOK {
		return out, refused
	}
	n, err := parseXML(out.body)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, set := range n.kids {
		set.kids = slices.DeleteFunc(set.kids, func(k *node) bool { return k.mentions(late) })
	}
	switch in.action {
	case "DescribeInstances":
		n.each("instancesSet", func(set *node) { c.complete(set) })
	case "DescribeImages":
		for _, item := range n.at("imagesSet").kids {
			c.completeImage(item)
		}
	case "DescribeSnapshots":
		for _, item := range n.at("snapshotSet").kids {
			if s := c.snapshots[item.value("snapshotId")]; s != nil && !s.completed {
				item.set(leaf("status", "pending"))
			}
		}
	}
	out.body = n.bytes()
	return out, nil
}

// complete adds to instances what was asked for, and why they ended. The caller
// holds c.mu.
func (c *Cloud) complete(instances *node) {
	for _, item := range instances.kids {
		id := item.value("instanceId")
		if o, ok := c.cpu[id]; ok {
			kept := item.at("cpuOptions")
			if kept.name == "" {
				kept = branch("cpuOptions")
			}
			kept.set(leaf("amdSevSnp", o.sevSNP))
			item.set(kept)
		}
		if r, ok := c.reasons[id]; ok {
			item.set(branch("stateReason", leaf("code", r.code), leaf("message", r.message)))
		}
	}
}

// runInstances refuses what was asked to be refused, or makes an instance once
// for each token.
func (c *Cloud) runInstances(in *call) (answer, *refusal) {
	if c.due(providertest.FaultHang) {
		<-in.r.Context().Done()
		return answer{}, nil
	}
	if refused := c.runRefused(in); refused != nil {
		return answer{}, refused
	}
	out, refused := c.idempotent(in, c.launch)
	if refused == nil && c.due(providertest.FaultLostAnswer) {
		return answer{}, nil
	}
	return out, refused
}

// runRefused are the refusals of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
func (c *Cloud) runRefused(in *call) *refusal {
	switch {
	case c.due(providertest.FaultDenied):
		return refuse(http.StatusForbidden, "UnauthorizedOperation",
			"You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/shed is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:*:*:instance/*")
	case c.due(providertest.FaultQuota):
		return refuse(http.StatusBadRequest, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit allows.")
	}
	subnet, zone := in.form.Get("NetworkInterface.1.SubnetId"), ""
	c.mu.Lock()
	full := len(c.trouble.full) > 0
	c.mu.Unlock()
	if full {
		n, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "DescribeSubnets", url.Values{"SubnetId.1": {subnet}})
		if err == nil {
			zone = n.value("subnetSet", "item", "availabilityZone")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if full && (c.trouble.full[""] || c.trouble.full[zone]) {
		return refuse(http.StatusInternalServerError, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity in the Availability Zone you requested (%s).", zone)
	}
	return c.bootable(in)
}

// bootable refuses SEV-SNP for what does not start by UEFI:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/snp-requirements.html
// The caller holds c.mu.
func (c *Cloud) bootable(in *call) *refusal {
	i, known := c.images[in.form.Get("ImageId")]
	if in.form.Get("CpuOptions.AmdSevSnp") != "enabled" || known && strings.HasPrefix(i.bootMode, "uefi") {
		return nil
	}
	return refuse(http.StatusBadRequest, "InvalidParameterCombination", "AMD SEV-SNP needs an AMI whose boot mode is uefi or uefi-preferred")
}

// launch makes an instance, and keeps what moto does not.
func (c *Cloud) launch(in *call) (answer, *refusal) {
	out, refused := c.forward(in)
	if refused != nil || out.status != http.StatusOK {
		return out, refused
	}
	n, err := parseXML(out.body)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	item := n.at("instancesSet", "item")
	id, nic := item.value("instanceId"), item.value("networkInterfaceSet", "item", "networkInterfaceId")
	c.mu.Lock()
	if snp := in.form.Get("CpuOptions.AmdSevSnp"); snp != "" {
		c.cpu[id] = cpuOptions{snp}
	}
	c.complete(n.at("instancesSet"))
	c.hide(id)
	c.mu.Unlock()
	out.body = n.bytes()
	if tags := tagsFor(in.form, "network-interface"); len(tags) > 0 && nic != "" {
		tags.Set("ResourceId.1", nic)
		if _, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "CreateTags", tags); err != nil {
			return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
		}
	}
	if c.o.Guests != nil {
		if err := c.boot(in, id); err != nil {
			return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
		}
	}
	if c.due(providertest.FaultPartial) {
		return out, c.abort(in, id)
	}
	return out, nil
}

// abort ends an instance as EC2 does with one that it could not launch after
// all, whose volumes stay where they were to:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
func (c *Cloud) abort(in *call, id string) *refusal {
	if _, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "TerminateInstances", url.Values{"InstanceId.1": {id}}); err != nil {
		return refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[id] = stateReason{"Server.InternalError", "Server.InternalError: Internal error on launch"}
	return nil
}

// hide keeps what is made out of answers while the cloud lags. The caller holds
// c.mu.
func (c *Cloud) hide(id string) {
	if c.o.Now().Before(c.trouble.lagUntil) {
		c.trouble.late[id] = true
	}
}

// tagsFor are the tags that a request gives one kind of resource, as CreateTags
// takes them.
func tagsFor(form url.Values, kind string) url.Values {
	out := url.Values{}
	for i := 1; form.Has("TagSpecification." + strconv.Itoa(i) + ".ResourceType"); i++ {
		prefix := "TagSpecification." + strconv.Itoa(i) + "."
		if form.Get(prefix+"ResourceType") != kind {
			continue
		}
		for name, values := range form {
			if tag, ok := strings.CutPrefix(name, prefix+"Tag."); ok {
				out["Tag."+tag] = values
			}
		}
	}
	return out
}

func (c *Cloud) allocateAddress(in *call) (answer, *refusal) {
	out, refused := c.forward(in)
	if refused != nil || out.status != http.StatusOK {
		return out, refused
	}
	if n, err := parseXML(out.body); err == nil {
		c.mu.Lock()
		c.hide(n.value("allocationId"))
		c.mu.Unlock()
		c.lead(in, n.value("publicIp"))
	}
	return out, nil
}

func (c *Cloud) startInstances(in *call) (answer, *refusal) {
	out, refused := c.power(in, c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reasons, in.form.Get("InstanceId.1"))
	return out, refused
}

// groupInUse refuses to delete what an instance uses:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html
func (c *Cloud) groupInUse(in *call) *refusal {
	id := in.form.Get("GroupId")
	n, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "DescribeNetworkInterfaces",
		url.Values{"Filter.1.Name": {"group-id"}, "Filter.1.Value.1": {id}})
	if err == nil && len(n.at("networkInterfaceSet").kids) > 0 {
		return refuse(http.StatusBadRequest, "DependencyViolation", "resource %s has a dependent object", id)
	}
	return nil
}
