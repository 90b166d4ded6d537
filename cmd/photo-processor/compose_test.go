package main_test

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	repository  = "../.."
	composeFile = repository + "/docker-compose.yml"
	composeEnv  = repository + "/.env"
)

// secrets are the variables of docker-compose.yml that have no default.
func secrets(t *testing.T) []string {
	t.Helper()
	makefile, err := os.ReadFile(repository + "/Makefile")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^SECRETS := (.*\\\n.*)$`).FindSubmatch(makefile)
	require.NotNil(t, found)
	return strings.Fields(strings.ReplaceAll(string(found[1]), "\\", ""))
}

// loadCompose loads docker-compose.yml with all profiles by docker compose's own
// library, which validates it. The environment is .env and the given variables.
func loadCompose(t *testing.T, environment []string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{composeFile},
		cli.WithWorkingDirectory(repository),
		cli.WithEnv(environment), cli.WithEnvFiles(composeEnv), cli.WithDotEnv,
		cli.WithProfiles([]string{"*"}))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func withTestSecrets(t *testing.T) (environment []string) {
	for _, name := range secrets(t) {
		environment = append(environment, name+"="+strings.ToLower(name)+"0123456789")
	}
	return environment
}

func composeProject(t *testing.T) *types.Project {
	t.Helper()
	project, err := loadCompose(t, withTestSecrets(t))
	require.NoError(t, err)
	return project
}

// isStep reports whether the service exits when it is done.
func isStep(service types.ServiceConfig) bool {
	return strings.HasPrefix(service.Restart, types.RestartPolicyOnFailure)
}

func hasHealthcheck(service types.ServiceConfig) bool {
	return service.HealthCheck != nil && !service.HealthCheck.Disable && len(service.HealthCheck.Test) > 0
}

func TestComposeServices(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	require.ElementsMatch(t, []string{
		"postgres", "temporal-schema", "temporal", "temporal-namespace", "temporal-ui", "migrate", "api", "worker",
		"samples", "s3", "prometheus", "grafana",
	}, project.ServiceNames())
	settings := composeSettings(t)
	for name, service := range project.Services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if service.Build == nil {
				require.Regexp(t, `^[a-z/-]+:v?[0-9]+\.[0-9]+[a-z0-9.-]*$`, service.Image, "it is not pinned")
			} else {
				require.Equal(t, project.WorkingDir, service.Build.Context)
				require.True(t, service.ReadOnly)
				require.Equal(t, []string{"ALL"}, service.CapDrop)
				require.Empty(t, service.CapAdd)
				require.Positive(t, service.PidsLimit)
			}
			require.False(t, service.Privileged)
			require.NotEmpty(t, service.Restart)
			require.NotZero(t, service.MemLimit)
			require.Equal(t, "10m", service.Logging.Options["max-size"])
			require.Equal(t, []string{"no-new-privileges:true"}, service.SecurityOpt, "nothing turns Docker's seccomp profile off")
			for _, port := range service.Ports {
				require.Equal(t, "127.0.0.1", port.HostIP)
			}
			for _, volume := range service.Volumes {
				if volume.Type == types.VolumeTypeBind {
					require.True(t, volume.ReadOnly, volume.Source)
					_, err := os.Stat(volume.Source)
					require.NoError(t, err)
				} else {
					require.Contains(t, project.Volumes, volume.Source)
				}
			}
			for variable, value := range service.Environment {
				if !slices.Contains(settings, variable) {
					require.NotNil(t, value, "%s would be that of the shell", variable)
				}
			}
		})
	}
}

// TestComposeWorkers checks that WORKERS is the number of workers.
func TestComposeWorkers(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, *composeProject(t).Services["worker"].Scale)
	project, err := loadCompose(t, append(withTestSecrets(t), "WORKERS=3"))
	require.NoError(t, err)
	require.Equal(t, 3, *project.Services["worker"].Scale)
}

// TestComposeOrder checks that every dependency can be satisfied: `docker compose up
// --wait` would wait for ever, and treats the exit of a step as a failure unless
// another service depends on its completion.
func TestComposeOrder(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	awaited := map[string]bool{}
	for name, service := range project.Services {
		for dependency, how := range service.DependsOn {
			other, known := project.Services[dependency]
			require.True(t, known, "%s waits for %s, which there is not", name, dependency)
			require.Equal(t, len(other.Profiles) == 0 || slices.Equal(other.Profiles, service.Profiles), how.Required,
				"%s waits for %s, which may be absent", name, dependency)
			if isStep(other) {
				require.Equal(t, types.ServiceConditionCompletedSuccessfully, how.Condition, "%s waits for %s", name, dependency)
				awaited[dependency] = true
			} else {
				require.Equal(t, types.ServiceConditionHealthy, how.Condition, "%s waits for %s", name, dependency)
				require.True(t, hasHealthcheck(other), "%s waits for %s, which has no health check", name, dependency)
			}
		}
	}
	order := startOrder(t, project)
	require.Len(t, order, len(project.Services))
	for _, service := range order {
		require.Equal(t, isStep(service), awaited[service.Name], "%s", service.Name)
		if service.HealthCheck != nil && service.HealthCheck.Disable {
			require.True(t, isStep(service), "%s: up --wait fails for a running service whose health check is disabled", service.Name)
		}
	}
	require.Equal(t, map[string]string{
		"migrate":            types.ServiceConditionCompletedSuccessfully,
		"temporal-namespace": types.ServiceConditionCompletedSuccessfully,
		"s3":                 types.ServiceConditionHealthy,
	}, conditions(project.Services["worker"]))
}

// TestComposeSources checks that workers may fetch from no private address but that
// of the sample photos, which Docker assigns to no other container.
func TestComposeSources(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	address, err := netip.ParseAddr(project.Services["samples"].Networks["samples"].Ipv4Address)
	require.NoError(t, err)
	require.Equal(t, address.String()+"/32", *project.Services["worker"].Environment["SOURCE_ALLOW_CIDRS"])
	require.Len(t, project.Networks["samples"].Ipam.Config, 1)
	pool := project.Networks["samples"].Ipam.Config[0]
	require.True(t, netip.MustParsePrefix(pool.Subnet).Contains(address))
	require.False(t, netip.MustParsePrefix(pool.IPRange).Contains(address))
}

// TestComposeMetrics checks that each service serves its metrics where Prometheus
// scrapes them, and that their ports are not published.
func TestComposeMetrics(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	text, err := os.ReadFile(repository + "/observability/prometheus.yml")
	require.NoError(t, err)
	var prometheus struct {
		Jobs []struct {
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal(text, &prometheus))
	var asked []string
	for _, job := range prometheus.Jobs {
		for _, discovered := range job.DNS {
			for _, name := range discovered.Names {
				asked = append(asked, fmt.Sprintf("%s:%d", name, discovered.Port))
			}
		}
		for _, static := range job.Static {
			asked = append(asked, static.Targets...)
		}
	}
	require.Len(t, asked, 3)
	for service, variable := range map[string]string{"api": "METRICS_ADDR", "worker": "METRICS_ADDR", "temporal": "PROMETHEUS_ENDPOINT"} {
		host, port, err := net.SplitHostPort(*project.Services[service].Environment[variable])
		require.NoError(t, err)
		require.Equal(t, "0.0.0.0", host)
		require.Contains(t, asked, service+":"+port)
		for _, published := range project.Services[service].Ports {
			require.NotEqual(t, port, fmt.Sprint(published.Target), "nobody is asked for a token there")
		}
	}
}

// TestComposeS3 checks that the URL in .env is that of the profile s3's bucket.
func TestComposeS3(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	s3, worker := project.Services["s3"].Environment, project.Services["worker"].Environment
	bucket, err := url.Parse(s3BucketURL(t))
	require.NoError(t, err)
	endpoint, err := url.Parse(bucket.Query().Get("endpoint"))
	require.NoError(t, err)
	require.Equal(t, "s3", endpoint.Hostname())
	require.Equal(t, "0.0.0.0:"+endpoint.Port(), *s3["VGW_PORT"])
	require.Contains(t, project.Services["s3"].Entrypoint[2], "mkdir -p /data/"+bucket.Host+" ")
	for ours, theirs := range map[string]string{
		"AWS_ACCESS_KEY_ID": "ROOT_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "ROOT_SECRET_KEY", "AWS_REGION": "VGW_REGION",
	} {
		require.Equal(t, *s3[theirs], *worker[ours])
	}
}

// s3BucketURL is the value of THUMBNAILS_BUCKET that .env proposes for the profile
// s3.
func s3BucketURL(t *testing.T) string {
	t.Helper()
	env, err := os.ReadFile(composeEnv)
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^#   THUMBNAILS_BUCKET=(s3://\S+)$`).FindSubmatch(env)
	require.NotNil(t, found)
	return string(found[1])
}

func conditions(service types.ServiceConfig) map[string]string {
	all := map[string]string{}
	for name, how := range service.DependsOn {
		all[name] = how.Condition
	}
	return all
}

// startOrder returns the services, each after its dependencies.
func startOrder(t *testing.T, project *types.Project) (order []types.ServiceConfig) {
	t.Helper()
	const underWay, done = 1, 2
	state := map[string]int{}
	var visit func(name string)
	visit = func(name string) {
		require.NotEqual(t, underWay, state[name], "%s depends on itself", name)
		if state[name] == done {
			return
		}
		state[name] = underWay
		for _, dependency := range slices.Sorted(maps.Keys(project.Services[name].DependsOn)) {
			visit(dependency)
		}
		state[name] = done
		order = append(order, project.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		visit(name)
	}
	return order
}

// TestComposeVersions compares the versions in .env and the Dockerfile with those
// that are tested.
func TestComposeVersions(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	installed, err := os.ReadFile(repository + "/internal/devstack/install.go")
	require.NoError(t, err)
	for constant, service := range map[string]string{"temporalServerVersion": "temporal", "temporalUIVersion": "temporal-ui"} {
		_, version, _ := strings.Cut(project.Services[service].Image, ":")
		require.Regexp(t, constant+` += "v`+regexp.QuoteMeta(version)+`"`, string(installed))
	}
	for _, step := range []string{"temporal-schema", "temporal-namespace"} {
		_, version, _ := strings.Cut(project.Services["temporal"].Image, ":")
		require.Equal(t, "temporalio/admin-tools:"+version, project.Services[step].Image)
	}

	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	debian := regexp.MustCompile(`(?m)^FROM golang:[0-9.]+-([a-z]+) AS build$`).FindSubmatch(dockerfile)
	require.NotNil(t, debian)
	require.Regexp(t, `(?m)^FROM debian:`+string(debian[1])+`-[0-9]{8}-slim AS runtime$`, string(dockerfile), "both must be of the same Debian, for libvips")
	for _, want := range []string{"\nUSER photo-processor\n", "\nHEALTHCHECK ", "\nENTRYPOINT [\"tini\", "} {
		require.Contains(t, string(dockerfile), want)
	}
}
