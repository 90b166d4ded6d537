package main_test

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/config"
)

// Where pods have the certificates of authorities, and their own.
const (
	authoritiesPath = "/etc/photo-processor/authorities"
	temporalPath    = "/etc/photo-processor/temporal"
)

// requireMountedFiles checks that the pod has the files that configuration.yaml
// names, also those in comments.
func requireMountedFiles(t *testing.T, all map[string]manifest, p pod) {
	t.Helper()
	c := p.Containers[0]
	volumes := map[string]string{} // mount path to the ConfigMap's or Secret's name
	for _, mount := range c.VolumeMounts {
		for _, volume := range p.Volumes {
			if volume.Name == mount.Name {
				volumes[mount.MountPath] = volume.ConfigMap.Name + volume.Secret.SecretName
				require.True(t, mount.ReadOnly || volumes[mount.MountPath] == "")
				require.Equal(t, volume.Secret.SecretName != "", volume.Secret.Optional, "most clusters have none")
			}
		}
		require.Contains(t, volumes, mount.MountPath)
	}
	text, err := os.ReadFile(repository + "/docs/kubernetes/configuration.yaml")
	require.NoError(t, err)
	files := regexp.MustCompile(`/etc/photo-processor/[a-z./]+`).FindAllString(string(text), -1)
	require.Len(t, files, 4)
	for _, file := range files {
		directory, name := path.Split(file)
		switch directory = path.Clean(directory); directory {
		case authoritiesPath:
			require.Contains(t, all["ConfigMap "+volumes[directory]].Data, name)
		case temporalPath:
			if c.Name != "migrate" { // it has no connection to Temporal
				require.Contains(t, string(text), `Secret "`+volumes[directory]+`" of type kubernetes.io/tls`)
				require.Contains(t, []string{"tls.crt", "tls.key"}, name)
			}
		default:
			require.Fail(t, file)
		}
	}
}

// TestKubernetes compares docs/kubernetes with the configuration, its documentation,
// the Dockerfile, and the manifests with each other.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	page, err := os.ReadFile(repository + "/docs/configuration.md")
	require.NoError(t, err)
	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	ours := map[string]bool{}
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		ours[p.Key] = true
	}
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, all, "Deployment "+name)
			deployment := all["Deployment "+name]
			labels, pod := deployment.Spec.Template.Metadata.Labels, deployment.Spec.Template.Spec
			require.Len(t, pod.Containers, 1)
			c := pod.Containers[0]
			variables := podEnvironment(t, all, c)
			for variable := range variables {
				switch {
				case strings.HasPrefix(variable, "AWS_"):
				case strings.HasPrefix(variable, "TEMPORAL_"):
					require.Contains(t, string(page), "| `"+variable+"` |")
				default:
					require.True(t, ours[variable], "%s is no variable of photo-processor", variable)
				}
			}
			cfg := parsePodEnvironment(t, variables)

			require.NotEmpty(t, labels)
			require.Equal(t, labels, deployment.selected(t))
			require.Equal(t, labels, all["PodDisruptionBudget "+name].selected(t))
			require.Len(t, pod.TopologySpreadConstraints, 2)
			for _, constraint := range pod.TopologySpreadConstraints {
				require.Equal(t, labels, parseSelector(t, constraint.LabelSelector).MatchLabels)
			}
			requireMountedFiles(t, all, pod)
			require.Contains(t, string(dockerfile), "--uid "+strconv.Itoa(pod.SecurityContext.RunAsUser)+" ")
			grace := time.Duration(pod.TerminationGracePeriodSeconds-c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			require.Greater(t, grace, cfg.ShutdownTimeout+5*time.Second, "and some time to report what was given up")

			ports := map[string]string{}
			for _, p := range c.Ports {
				ports[p.Name] = strconv.Itoa(p.ContainerPort)
			}
			require.Equal(t, "0.0.0.0:"+ports["metrics"], cfg.MetricsAddr)
			for want, p := range map[string]probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				require.Equal(t, want, strings.TrimSuffix(p.HTTPGet.Path, "?for=reads"))
				require.Contains(t, ports, p.HTTPGet.Port)
				require.Greater(t, p.TimeoutSeconds, 3, "/readyz takes up to 3 seconds")
			}
			if name == "photo-processor-api" {
				require.Equal(t, "0.0.0.0:"+ports["http"], cfg.HTTPAddr)
				require.NotEmpty(t, cfg.APITokens)
				service := all["Service "+name]
				require.Equal(t, labels, service.selected(t))
				require.Equal(t, "http", service.Spec.Ports[0].TargetPort)
				return
			}
			require.NotContains(t, variables, "API_TOKEN", "a worker has no use for it")
			require.Equal(t, cfg.SourceCacheDir, c.VolumeMounts[0].MountPath)
			require.GreaterOrEqual(t, quantity(t, pod.Volumes[0].EmptyDir.SizeLimit), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Requests["ephemeral-storage"]), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Limits["ephemeral-storage"]), quantity(t, pod.Volumes[0].EmptyDir.SizeLimit))
			require.Equal(t, c.Resources.Limits["memory"], c.Resources.Requests["memory"])
			require.GreaterOrEqual(t, quantity(t, c.Resources.Limits["memory"]), int64(cfg.RenderConcurrency)*cfg.RenderMaxMemory+512<<20)
			require.Equal(t, strconv.Itoa(cfg.RenderConcurrency), c.Resources.Requests["cpu"])

			require.Nil(t, deployment.Spec.Replicas, "else each apply would undo what KEDA has done")
			scaled := all["ScaledObject "+name]
			require.Equal(t, name, scaled.Spec.ScaleTargetRef.Name)
			trigger := scaled.Spec.Triggers[0].Metadata
			require.Equal(t, cfg.TaskQueue, trigger["taskQueue"])
			require.Equal(t, variables["TEMPORAL_ADDRESS"], trigger["endpoint"])
			require.Equal(t, variables["TEMPORAL_NAMESPACE"], trigger["namespace"])
		})
	}
}

// TestKubernetesMigrates checks that the Job runs the same image with the same
// database as the API.
func TestKubernetesMigrates(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	job := all["Job photo-processor-migrate"].Spec.Template.Spec
	c := job.Containers[0]
	require.Equal(t, []string{"migrate"}, c.Args)
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		deployment := all["Deployment "+name].Spec.Template.Spec
		require.Equal(t, deployment.Containers[0].Image, c.Image)
		require.Equal(t, deployment.SecurityContext, job.SecurityContext)
	}
	parsePodEnvironment(t, podEnvironment(t, all, c))
	requireMountedFiles(t, all, job)
}

// TestKubernetesNetworkPolicies checks that the pods of each kind may reach what
// their settings name, workers no private address, and that the policies open no
// port that nobody listens on.
func TestKubernetesNetworkPolicies(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	public, private := []string{"192.0.2.1", "2001:db8::1"}, []string{
		"10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.1", "192.168.1.1", "0.0.0.1", "fd00::1", "fe80::1", "64:ff9b::a00:1",
	}
	for name, want := range map[string]struct {
		ingress       []string
		temporal      bool
		internetPorts []string
	}{
		"Deployment photo-processor-api":    {[]string{"metrics", "http"}, true, []string{"443"}},
		"Deployment photo-processor-worker": {[]string{"metrics"}, true, []string{"80", "443"}},
		"Job photo-processor-migrate":       {[]string{"metrics"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, all, name)
			template := all[name].Spec.Template
			var ingress, egress []policyRule
			for _, m := range all {
				if m.Kind == "NetworkPolicy" && parseSelector(t, m.Spec.PodSelector).matches(t, template.Metadata.Labels) {
					require.Equal(t, []string{"Ingress", "Egress"}, m.Spec.PolicyTypes)
					ingress, egress = append(ingress, m.Spec.Ingress...), append(egress, m.Spec.Egress...)
				}
			}
			var open []string
			for _, rule := range ingress {
				for _, p := range rule.Ports {
					open = append(open, p.Port)
					require.Equal(t, p.Port == "metrics", len(rule.From) == 1 && rule.From[0].namespace() == "monitoring")
				}
			}
			require.ElementsMatch(t, want.ingress, open)

			namespaces := map[string]string{} // "namespace:port"
			var internet []string
			for _, rule := range egress {
				require.NotEmpty(t, rule.To)
				require.NotEmpty(t, rule.Ports)
				for _, p := range rule.Ports {
					for _, to := range rule.To {
						if to.namespace() != "" {
							namespaces[to.namespace()] = p.Port
						}
					}
					if rule.To[0].IPBlock.CIDR.IsValid() {
						internet = append(internet, p.Port)
					}
				}
				for _, address := range private {
					require.False(t, slices.ContainsFunc(rule.To, func(p policyPeer) bool { return p.contains(netip.MustParseAddr(address)) }), address)
				}
				for _, address := range public {
					require.Equal(t, rule.To[0].IPBlock.CIDR.IsValid(),
						slices.ContainsFunc(rule.To, func(p policyPeer) bool { return p.contains(netip.MustParseAddr(address)) }), address)
				}
			}
			require.ElementsMatch(t, want.internetPorts, internet)

			variables := podEnvironment(t, all, template.Spec.Containers[0])
			database, err := url.Parse(variables["DATABASE_URL"])
			require.NoError(t, err)
			reached := map[string]string{"kube-system": "53", strings.Split(database.Hostname(), ".")[1]: database.Port()}
			if want.temporal {
				host, port, err := net.SplitHostPort(variables["TEMPORAL_ADDRESS"])
				require.NoError(t, err)
				reached[strings.Split(host, ".")[1]] = port
			}
			require.Equal(t, reached, namespaces)
		})
	}
}

// TestKubernetesMonitoring checks that the pods' metrics get the names of jobs that
// prometheus.yml uses, and so the alerts.
func TestKubernetesMonitoring(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	text, err := os.ReadFile(repository + "/observability/prometheus.yml")
	require.NoError(t, err)
	monitor := all["PodMonitor photo-processor"]
	require.Len(t, monitor.Spec.PodMetricsEndpoints, 1)
	endpoint := monitor.Spec.PodMetricsEndpoints[0]
	require.Equal(t, "job", endpoint.Relabelings[0].TargetLabel)
	require.Equal(t, []string{"__meta_kubernetes_pod_container_name"}, endpoint.Relabelings[0].SourceLabels)
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		template := all["Deployment "+name].Spec.Template
		require.True(t, parseSelector(t, monitor.Spec.Selector).matches(t, template.Metadata.Labels))
		c := template.Spec.Containers[0]
		require.Regexp(t, `job_name: `+c.Name+`\b`, string(text), "alerts and dashboard use this name")
		require.True(t, slices.ContainsFunc(c.Ports, func(p port) bool { return p.Name == endpoint.Port }))
	}
}
