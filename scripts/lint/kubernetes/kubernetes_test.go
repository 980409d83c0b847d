package kubernetes

import (
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// example is what the example makes.
type example struct {
	deployments []*appsv1.Deployment
	budget      *policyv1.PodDisruptionBudget
	service     *corev1.Service
	gateway     *gatewayv1.Gateway
	route       *gatewayv1.HTTPRoute
}

func readExample(t *testing.T) *example {
	t.Helper()
	text, err := os.ReadFile("../../../docs/deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e := &example{}
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(part), &kind); err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(part), e.add(t, kind)); err != nil {
			t.Fatalf("%s: %v", kind.Kind, err)
		}
	}
	if len(e.deployments) != 2 || e.budget == nil || e.service == nil || e.gateway == nil ||
		e.route == nil {
		t.Fatal("something is missing")
	}
	return e
}

// add returns a new object of a kind, which is part of the example.
func (e *example) add(t *testing.T, kind metav1.TypeMeta) any {
	t.Helper()
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 Deployment":
		e.deployments = append(e.deployments, &appsv1.Deployment{})
		return e.deployments[len(e.deployments)-1]
	case "policy/v1 PodDisruptionBudget":
		e.budget = &policyv1.PodDisruptionBudget{}
		return e.budget
	case "v1 Service":
		e.service = &corev1.Service{}
		return e.service
	case "gateway.networking.k8s.io/v1 Gateway":
		e.gateway = &gatewayv1.Gateway{}
		return e.gateway
	case "gateway.networking.k8s.io/v1 HTTPRoute":
		e.route = &gatewayv1.HTTPRoute{}
		return e.route
	}
	t.Fatalf("%s %s: what is that?", kind.APIVersion, kind.Kind)
	return nil
}

// The example has only fields that Kubernetes knows, and its parts refer to each other. A pod has
// the time to drain.
func TestExample(t *testing.T) {
	e := readExample(t)
	secrets := make(map[string]bool)
	for _, d := range e.deployments {
		pod := d.Spec.Template
		selects(t, d.Name, d.Spec.Selector, pod.Labels)
		selects(t, e.budget.Kind, e.budget.Spec.Selector, pod.Labels)
		service := &metav1.LabelSelector{MatchLabels: e.service.Spec.Selector}
		selects(t, e.service.Kind, service, pod.Labels)
		container := pod.Spec.Containers[0]
		// An image's tag is the version, without the v of the commit's tag.
		if strings.Contains(container.Image, ":v") {
			t.Errorf("%s: releases have no image %s", d.Name, container.Image)
		}
		if port := e.service.Spec.Ports[0].TargetPort.StrVal; port != container.Ports[0].Name {
			t.Errorf("the service is at port %s, and the pod at %s", port, container.Ports[0].Name)
		}
		drain, err := time.ParseDuration(argument(container.Args, "--drain-timeout"))
		if err != nil {
			t.Fatal(err)
		}
		needed := drain + time.Duration(container.Lifecycle.PreStop.Sleep.Seconds)*time.Second
		grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
		if grace < needed+10*time.Second {
			t.Errorf("%s: a pod has %v to end, and needs %v", d.Name, grace, needed)
		}
		if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			t.Errorf("%s: two pods may have its key at once", d.Name)
		}
		secrets[pod.Spec.Volumes[0].Secret.SecretName] = true
	}
	if len(secrets) != len(e.deployments) {
		t.Errorf("the keys are in %v", secrets)
	}
	rule := e.route.Spec.Rules[0]
	if to := rule.BackendRefs[0]; string(to.Name) != e.service.Name ||
		*to.Port != e.service.Spec.Ports[0].Port {
		t.Errorf("the route leads to %s:%d", to.Name, *to.Port)
	}
	if parent := e.route.Spec.ParentRefs[0].Name; string(parent) != e.gateway.Name {
		t.Errorf("the route is of %s", parent)
	}
	if rule.SessionPersistence == nil || rule.Retry == nil {
		t.Error("sessions don't stay on their pods")
	}
}

// selects checks that a selector is for pods with these labels.
func selects(t *testing.T, what string, selector *metav1.LabelSelector, pod map[string]string) {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	if s.Empty() || !s.Matches(labels.Set(pod)) {
		t.Errorf("%s does not select %v", what, pod)
	}
}

// argument returns the value of a flag.
func argument(args []string, flag string) string {
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
	}
	return ""
}
