// Command check reads manifests as Kubernetes' own types: it finds fields that
// there are not, or that are given twice, and values of another type. It is a
// module of its own because those types take half a minute to compile.
package main

import (
	"bytes"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// types are the kinds in docs/kubernetes. Those of KEDA and of the Prometheus
// Operator would import all of Kubernetes' client, so only their syntax is
// checked.
var types = map[string]func() any{
	"v1 ConfigMap":                        func() any { return new(corev1.ConfigMap) },
	"v1 Secret":                           func() any { return new(corev1.Secret) },
	"v1 Service":                          func() any { return new(corev1.Service) },
	"apps/v1 Deployment":                  func() any { return new(appsv1.Deployment) },
	"batch/v1 Job":                        func() any { return new(batchv1.Job) },
	"networking.k8s.io/v1 NetworkPolicy":  func() any { return new(networkingv1.NetworkPolicy) },
	"policy/v1 PodDisruptionBudget":       func() any { return new(policyv1.PodDisruptionBudget) },
	"keda.sh/v1alpha1 ScaledObject":       func() any { return new(map[string]any) },
	"monitoring.coreos.com/v1 PodMonitor": func() any { return new(map[string]any) },
}

func main() {
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
	fmt.Printf("%d files are as Kubernetes wants them\n", len(os.Args)-1)
}

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var is struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(document, &is); err != nil {
			return err
		}
		known, ok := types[is.APIVersion+" "+is.Kind]
		if !ok {
			return fmt.Errorf("%s %s: not known here", is.APIVersion, is.Kind)
		}
		if err := yaml.UnmarshalStrict(document, known()); err != nil {
			return fmt.Errorf("%s: %w", is.Kind, err)
		}
	}
	return nil
}
