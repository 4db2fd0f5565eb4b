package secret

import (
	"slices"

	"bulkhead"
)

// Parts of patterns.
const (
	// assigned is what may stand between a vendor's name and a value: more words of the name, a sign, quotes.
	assigned = `[\w.\-]{0,40}["']?[ \t]{0,4}(?:=|:=|:|=>|,)[ \t]{0,4}["']?`
	hex32    = `(?P<s>[0-9a-f]{32})`
	hex40    = `(?P<s>[0-9a-f]{40})`
	hex64    = `(?P<s>[0-9a-f]{64})`
	uuid     = `(?P<s>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})`
)

const (
	low      = bulkhead.Low
	medium   = bulkhead.Medium
	high     = bulkhead.High
	critical = bulkhead.Critical
)

// allRules returns the tables in order: of two rules that see the same secret, the earlier one tells it.
func allRules() []rule {
	return slices.Concat(clouds(), forges(), packages(), chats(), payments(), mails(), models(), monitors(), platforms(), formats())
}

func clouds() []rule {
	return []rule{
		{id: "aws-access-key", title: "AWS access key id", severity: high, keywords: []string{"AKIA", "ASIA", "ABIA", "ACCA"}, pattern: `(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}`, entropy: 3, valid: awsKey},
		{id: "aws-secret-key", title: "AWS secret access key", severity: critical, keywords: []string{"aws_secret", "aws-secret", "awssecret", "secretaccesskey", "secret_access_key"}, pattern: `(?i:aws[_-]?)?(?i:secret)[\w.\-]{0,30}["']?[ \t]{0,4}(?:=|:=|:|=>|,)[ \t]{0,4}["']?(?P<s>[A-Za-z0-9/+]{40})`, entropy: 4.2, valid: mixed, inText: true, anywhere: true},
		{id: "aws-session-token", title: "AWS session token", severity: high, keywords: []string{"aws_session_token", "sessiontoken"}, pattern: `(?i:aws_session_token|sessiontoken)["']?[ \t]{0,4}(?:=|:)[ \t]{0,4}["']?(?P<s>(?:FwoG|IQoJ)[A-Za-z0-9/+=]{100,})`},
		{id: "aws-mws-key", title: "Amazon MWS key", severity: high, keywords: []string{"amzn.mws."}, pattern: `amzn\.mws\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`},
		{id: "aws-bedrock-key", title: "AWS Bedrock API key", severity: high, keywords: []string{"ABSK"}, pattern: `ABSK[A-Za-z0-9+/]{109,}={0,2}`, entropy: 4},
		{id: "gcp-service-account", title: "Google Cloud service account key", severity: critical, keywords: []string{`"private_key"`}, pattern: `"private_key"\s*:\s*"(?P<s>-----BEGIN (?:RSA )?PRIVATE KEY-----\\n[A-Za-z0-9+/=\\]{400,})`, anywhere: true},
		{id: "gcp-api-key", title: "Google API key", severity: high, keywords: []string{"AIza"}, pattern: `AIza[0-9A-Za-z_\-]{35}`, entropy: 3.5, valid: mixed},
		{id: "gcp-oauth-token", title: "Google OAuth access token", severity: high, keywords: []string{"ya29."}, pattern: `ya29\.[0-9A-Za-z_\-]{60,}`, entropy: 4},
		{id: "gcp-oauth-client-secret", title: "Google OAuth client secret", severity: high, keywords: []string{"GOCSPX-"}, pattern: `GOCSPX-[0-9A-Za-z_\-]{28}`, entropy: 3.5},
		{id: "azure-storage-key", title: "Azure storage account key", severity: critical, keywords: []string{"accountkey="}, pattern: `(?i:accountkey)=(?P<s>[A-Za-z0-9+/]{86}==)`, entropy: 4.5, valid: notAzurite},
		{id: "azure-client-secret", title: "Azure AD client secret", severity: critical, keywords: []string{"7q~", "8q~"}, pattern: `[78][Qq]~[0-9A-Za-z_.~\-]{31}`, entropy: 4, inText: true, anywhere: true},
		{id: "azure-sas", title: "Azure shared access signature", severity: high, keywords: []string{"sig="}, pattern: `sig=(?P<s>[A-Za-z0-9%]{43,63}%3[Dd])`, entropy: 4, inText: true},
		{id: "azure-service-bus", title: "Azure Service Bus or Event Hub key", severity: high, keywords: []string{"sharedaccesskey="}, pattern: `(?i:sharedaccesskey)=(?P<s>[A-Za-z0-9+/]{43}=)`, entropy: 4},
		{id: "azure-devops-token", title: "Azure DevOps token", severity: high, keywords: []string{"azdo", "azure_devops", "azure-devops", "system_accesstoken"}, pattern: `(?i:azdo|azure[_-]devops|system_accesstoken)` + assigned + `(?P<s>[a-z2-7]{52})`, entropy: 4, inText: true},
		{id: "digitalocean-token", title: "DigitalOcean token", severity: high, keywords: []string{"dop_v1_", "doo_v1_", "dor_v1_"}, pattern: `do[opr]_v1_[0-9a-f]{64}`, entropy: 3},
		{id: "alibaba-access-key", title: "Alibaba Cloud access key id", severity: high, keywords: []string{"LTAI"}, pattern: `LTAI[0-9A-Za-z]{17,21}`, entropy: 3.5, valid: mixed, inText: true},
		{id: "tencent-secret-id", title: "Tencent Cloud secret id", severity: high, keywords: []string{"AKID"}, pattern: `AKID[0-9A-Za-z]{32}`, entropy: 4, valid: mixed, inText: true},
		{id: "ibm-cloud-key", title: "IBM Cloud API key", severity: high, keywords: []string{"ibm_cloud", "ibmcloud", "ibm-cloud"}, pattern: `(?i:ibm[_-]?cloud)` + assigned + `(?P<s>[0-9A-Za-z_\-]{44})`, entropy: 4, inText: true},
		{id: "oracle-cloud-key", title: "Oracle Cloud user with key fingerprint", severity: low, keywords: []string{"ocid1.user."}, pattern: `ocid1\.user\.oc1\.\.[a-z0-9]{60}`, entropy: 3.5, inText: true},
		{id: "cloudflare-token", title: "Cloudflare API token", severity: high, keywords: []string{"cloudflare", "cf_api"}, pattern: `(?i:cloudflare|cf_api)` + assigned + `(?P<s>[0-9A-Za-z_\-]{40})`, entropy: 4, valid: mixed, inText: true},
		{id: "cloudflare-origin-ca", title: "Cloudflare Origin CA key", severity: high, keywords: []string{"v1.0-"}, pattern: `v1\.0-[0-9a-f]{24}-[0-9a-f]{146}`},
		{id: "linode-token", title: "Linode token", severity: high, keywords: []string{"linode"}, pattern: `(?i:linode)` + assigned + hex64, entropy: 3, inText: true},
		{id: "hetzner-token", title: "Hetzner Cloud token", severity: high, keywords: []string{"hcloud", "hetzner"}, pattern: `(?i:hcloud|hetzner)` + assigned + `(?P<s>[0-9A-Za-z]{64})`, entropy: 4, inText: true},
		{id: "scaleway-key", title: "Scaleway secret key", severity: high, keywords: []string{"scw_secret"}, pattern: `(?i:scw_secret)` + assigned + uuid, entropy: 3, inText: true},
		{id: "fly-token", title: "Fly.io token", severity: high, keywords: []string{"fo1_", "fm1a_", "fm1r_", "fm2_"}, pattern: `(?:fo1_[0-9A-Za-z_\-]{43}|fm1[ar]_[0-9A-Za-z+/]{100,}={0,3}|fm2_[0-9A-Za-z+/]{100,}={0,3})`, entropy: 4},
		{id: "heroku-key", title: "Heroku API key", severity: high, keywords: []string{"heroku"}, pattern: `(?i:heroku)` + assigned + uuid, entropy: 3, inText: true},
		{id: "heroku-token", title: "Heroku API token", severity: high, keywords: []string{"HRKU-"}, pattern: `HRKU-[0-9A-Za-z_\-]{36,60}`, entropy: 3.5},
		{id: "vercel-token", title: "Vercel token", severity: high, keywords: []string{"vercel"}, pattern: `(?i:vercel)[\w.\-]{0,20}(?i:token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?(?P<s>[0-9A-Za-z]{24})`, entropy: 3.7, valid: mixed, inText: true},
		{id: "netlify-token", title: "Netlify token", severity: high, keywords: []string{"nfp_"}, pattern: `nfp_[0-9A-Za-z]{36}`, entropy: 3.5},
	}
}

func forges() []rule {
	return []rule{
		{id: "github-token", title: "GitHub token", severity: critical, keywords: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, pattern: `gh[pousr]_[0-9A-Za-z]{36}`, valid: githubChecksum},
		{id: "github-fine-grained-token", title: "GitHub fine-grained token", severity: critical, keywords: []string{"github_pat_"}, pattern: `github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}`, valid: githubChecksum},
		{id: "gitlab-token", title: "GitLab token", severity: critical, keywords: []string{"glpat-"}, pattern: `glpat-[0-9A-Za-z_\-]{20,64}(?:\.[0-9a-z]{2}\.[0-9a-z]{7,9})?`, entropy: 3.5},
		{id: "gitlab-other-token", title: "GitLab deploy, runner, feed or agent token", severity: high, keywords: []string{"gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-"}, pattern: `gl(?:dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[0-9A-Za-z_\-]{20,64}`, entropy: 3.5},
		{id: "gitlab-runner-registration", title: "GitLab runner registration token", severity: high, keywords: []string{"GR1348941"}, pattern: `GR1348941[0-9A-Za-z_\-]{20}`},
		{id: "bitbucket-app-password", title: "Bitbucket app password", severity: high, keywords: []string{"ATBB"}, pattern: `ATBB[0-9A-Za-z]{24}[0-9A-F]{8}`, entropy: 3.5},
		{id: "atlassian-token", title: "Atlassian API token", severity: high, keywords: []string{"ATATT3xFfGF0"}, pattern: `ATATT3xFfGF0[0-9A-Za-z_\-=]{160,}`, entropy: 4},
		{id: "circleci-token", title: "CircleCI token", severity: high, keywords: []string{"CCIPAT_", "CCIPRJ_"}, pattern: `CCIP(?:AT|RJ)_[0-9A-Za-z]{22}_[0-9a-f]{40}`},
		{id: "buildkite-token", title: "Buildkite token", severity: high, keywords: []string{"bkua_"}, pattern: `bkua_[0-9a-f]{40}`, entropy: 3},
		{id: "sonar-token", title: "SonarQube token", severity: high, keywords: []string{"sqp_", "squ_", "sqa_"}, pattern: `sq[pua]_[0-9a-f]{40}`, entropy: 3},
		{id: "jfrog-token", title: "JFrog Artifactory token", severity: high, keywords: []string{"AKCp", "cmVmdGtuO"}, pattern: `(?:AKCp[0-9A-Za-z]{69}|cmVmdGtuO[0-9A-Za-z]{55})`, entropy: 4},
		{id: "travis-token", title: "Travis CI token", severity: medium, keywords: []string{"travis"}, pattern: `(?i:travis)[\w.\-]{0,20}(?i:token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?(?P<s>[0-9A-Za-z_\-]{22})`, entropy: 3.7, valid: mixed, inText: true},
		{id: "snyk-token", title: "Snyk token", severity: high, keywords: []string{"snyk"}, pattern: `(?i:snyk)[\w.\-]{0,20}(?i:token|key)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + uuid, entropy: 3, inText: true},
		{id: "gitea-token", title: "Gitea token", severity: high, keywords: []string{"gitea"}, pattern: `(?i:gitea)[\w.\-]{0,20}(?i:token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + hex40, entropy: 3, inText: true},
	}
}

func packages() []rule {
	return []rule{
		{id: "npm-token", title: "npm token", severity: critical, keywords: []string{"npm_"}, pattern: `npm_[0-9A-Za-z]{36}`, valid: githubChecksum},
		{id: "pypi-token", title: "PyPI token", severity: critical, keywords: []string{"pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZ"}, pattern: `pypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZ)[0-9A-Za-z_\-]{50,}`},
		{id: "rubygems-token", title: "RubyGems token", severity: high, keywords: []string{"rubygems_"}, pattern: `rubygems_[0-9a-f]{48}`, entropy: 3},
		{id: "crates-token", title: "crates.io token", severity: high, keywords: []string{"cio"}, pattern: `cio[0-9A-Za-z]{32}`, entropy: 4, valid: mixed, inText: true},
		{id: "nuget-key", title: "NuGet key", severity: high, keywords: []string{"oy2"}, pattern: `oy2[a-z0-9]{43}`, entropy: 3.8, inText: true},
		{id: "docker-hub-token", title: "Docker Hub token", severity: critical, keywords: []string{"dckr_pat_", "dckr_oat_"}, pattern: `dckr_[po]at_[0-9A-Za-z_\-]{27,32}`, entropy: 3.5},
		{id: "clojars-token", title: "Clojars token", severity: high, keywords: []string{"CLOJARS_"}, pattern: `CLOJARS_[0-9a-f]{60}`, entropy: 3},
		{id: "maven-password", title: "Password of a Maven server", severity: high, keywords: []string{"<password>"}, pattern: `<password>(?P<s>[^<>${}\s]{6,128})</password>`, entropy: 2.5, valid: likelyPassword, inText: true, anywhere: true},
		{id: "nuget-password", title: "Clear-text password of a NuGet source", severity: high, keywords: []string{"cleartextpassword"}, pattern: `(?i:cleartextpassword)"\s+value="(?P<s>[^"%\s]{6,256})"`, inText: true},
		{id: "composer-auth", title: "Token of Composer", severity: high, keywords: []string{"github-oauth"}, pattern: `github-oauth"?\s*:\s*\{\s*"github\.com"\s*:\s*"(?P<s>[0-9A-Za-z_]{40,})"`, inText: true},
	}
}

func chats() []rule {
	return []rule{
		{id: "slack-token", title: "Slack token", severity: high, keywords: []string{"xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxo-"}, pattern: `xox[bparso]-[0-9]{8,14}-[0-9A-Za-z\-]{20,}`, entropy: 3},
		{id: "slack-app-token", title: "Slack app token", severity: high, keywords: []string{"xapp-"}, pattern: `xapp-\d-[A-Z0-9]{9,12}-\d{10,14}-[0-9a-f]{64}`},
		{id: "slack-config-token", title: "Slack configuration token", severity: high, keywords: []string{"xoxe.xox", "xoxe-"}, pattern: `xoxe(?:\.xox[bp])?-\d-[0-9A-Za-z]{140,}`, entropy: 4},
		{id: "slack-webhook", title: "Slack webhook", severity: medium, keywords: []string{"hooks.slack.com/"}, pattern: `hooks\.slack\.com/(?P<s>(?:services|workflows|triggers)/[A-Z0-9]{8,12}/[A-Z0-9]{8,12}/[0-9A-Za-z]{20,26})`, entropy: 3.5},
		{id: "discord-bot-token", title: "Discord bot token", severity: high, keywords: []string{"discord", "bot_token"}, pattern: `(?i:discord|bot_token)` + assigned + `(?P<s>[MNO][0-9A-Za-z_\-]{23,27}\.[0-9A-Za-z_\-]{6}\.[0-9A-Za-z_\-]{27,38})`, entropy: 4},
		{id: "discord-webhook", title: "Discord webhook", severity: medium, keywords: []string{"discord.com/api/webhooks/", "discordapp.com/api/webhooks/"}, pattern: `discord(?:app)?\.com/api/webhooks/(?P<s>\d{17,20}/[0-9A-Za-z_\-]{60,72})`, entropy: 4},
		{id: "telegram-bot-token", title: "Telegram bot token", severity: high, keywords: []string{"telegram", "tg_bot", "api.telegram.org/bot"}, pattern: `(?:(?i:telegram|tg_bot)` + assigned + `|api\.telegram\.org/bot)(?P<s>\d{8,10}:AA[0-9A-Za-z_\-]{33})`},
		{id: "teams-webhook", title: "Microsoft Teams webhook", severity: medium, keywords: []string{"webhook.office.com/"}, pattern: `webhook\.office\.com/webhookb2/(?P<s>[0-9a-f\-]{36}@[0-9a-f\-]{36}/IncomingWebhook/[0-9a-f]{32}/[0-9a-f\-]{36})`},
		{id: "mattermost-token", title: "Mattermost token", severity: medium, keywords: []string{"mattermost"}, pattern: `(?i:mattermost)` + assigned + `(?P<s>[a-z0-9]{26})`, entropy: 3.7, inText: true},
		{id: "facebook-token", title: "Facebook access token", severity: high, keywords: []string{"EAACEdEose0cBA", "EAAG", "EAAB"}, pattern: `EAA(?:CEdEose0cBA|[GB])[0-9A-Za-z]{90,}`, entropy: 4},
		{id: "twitter-bearer", title: "Twitter bearer token", severity: high, keywords: []string{"AAAAAAAAAAAAAAAAAAAA"}, pattern: `A{20,24}(?P<s>[0-9A-Za-z%]{80,110})`, entropy: 4.2, valid: twitterBearer, inText: true},
		{id: "line-token", title: "LINE channel token", severity: medium, keywords: []string{"line_channel", "line_notify"}, pattern: `(?i:line_(?:channel|notify))` + assigned + `(?P<s>[0-9A-Za-z+/=]{43,180})`, entropy: 4, inText: true},
	}
}

func payments() []rule {
	return []rule{
		{id: "stripe-key", title: "Stripe secret key", severity: critical, keywords: []string{"sk_live_", "rk_live_"}, pattern: `[sr]k_live_[0-9A-Za-z]{24,}`, entropy: 3.5},
		{id: "stripe-test-key", title: "Stripe test key", severity: low, keywords: []string{"sk_test_", "rk_test_"}, pattern: `[sr]k_test_[0-9A-Za-z]{24,}`, entropy: 3.5},
		{id: "stripe-webhook-secret", title: "Stripe webhook secret", severity: medium, keywords: []string{"whsec_"}, pattern: `whsec_[0-9A-Za-z]{32,64}`, entropy: 3.5},
		{id: "square-token", title: "Square token", severity: high, keywords: []string{"sq0atp-", "sq0csp-", "EAAAE"}, pattern: `(?:sq0atp-[0-9A-Za-z_\-]{22}|sq0csp-[0-9A-Za-z_\-]{43}|EAAAE[0-9A-Za-z_\-]{59})`, entropy: 3.5},
		{id: "paypal-braintree-token", title: "Braintree access token", severity: high, keywords: []string{"access_token$production$"}, pattern: `access_token\$production\$[0-9a-z]{16}\$[0-9a-f]{32}`},
		{id: "shopify-token", title: "Shopify token", severity: high, keywords: []string{"shpat_", "shpca_", "shppa_", "shpss_"}, pattern: `shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}`, entropy: 3},
		{id: "plaid-key", title: "Plaid access token", severity: high, keywords: []string{"access-production-", "access-development-"}, pattern: `access-(?:production|development)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`},
		{id: "adyen-key", title: "Adyen API key", severity: high, keywords: []string{"AQE"}, pattern: `AQE[mhyk][0-9A-Za-z+/]{40,}-[0-9A-Za-z+/]{40,}={0,2}-[0-9A-Za-z+/<>:;,.{}^\-]{12,24}`, inText: true},
		{id: "razorpay-key", title: "Razorpay live key", severity: medium, keywords: []string{"rzp_live_"}, pattern: `rzp_live_[0-9A-Za-z]{14}`},
		{id: "flutterwave-key", title: "Flutterwave secret key", severity: high, keywords: []string{"FLWSECK-"}, pattern: `FLWSECK-[0-9a-f]{32}-X`},
		{id: "coinbase-key", title: "Coinbase key", severity: high, keywords: []string{"coinbase"}, pattern: `(?i:coinbase)` + assigned + `(?P<s>[0-9A-Za-z_\-]{64})`, entropy: 4, inText: true},
	}
}

func mails() []rule {
	return []rule{
		{id: "sendgrid-key", title: "SendGrid key", severity: high, keywords: []string{"SG."}, pattern: `SG\.[0-9A-Za-z_\-]{22}\.[0-9A-Za-z_\-]{43}`, entropy: 4},
		{id: "mailgun-key", title: "Mailgun key", severity: high, keywords: []string{"key-"}, pattern: `key-[0-9a-f]{32}`, entropy: 3, inText: true},
		{id: "mailchimp-key", title: "Mailchimp key", severity: high, keywords: []string{"mailchimp"}, pattern: `(?i:mailchimp)` + assigned + `(?P<s>[0-9a-f]{32}-us\d{1,2})`, entropy: 3},
		{id: "twilio-key", title: "Twilio API key", severity: high, keywords: []string{"twilio"}, pattern: `(?i:twilio)` + assigned + `(?P<s>SK[0-9a-f]{32}|[0-9a-f]{32})`, entropy: 3, inText: true},
		{id: "twilio-account", title: "Twilio account id with token", severity: high, keywords: accountIDs(), pattern: `AC[0-9a-f]{32}["']?\s{0,4}[:,;]\s{0,4}["']?(?P<s>[0-9a-f]{32})`, entropy: 3, inText: true},
		{id: "brevo-key", title: "Brevo (Sendinblue) key", severity: high, keywords: []string{"xkeysib-"}, pattern: `xkeysib-[0-9a-f]{64}-[0-9A-Za-z]{16}`},
		{id: "postmark-token", title: "Postmark token", severity: high, keywords: []string{"postmark"}, pattern: `(?i:postmark)` + assigned + uuid, entropy: 3, inText: true},
		{id: "resend-key", title: "Resend key", severity: high, keywords: []string{"re_"}, pattern: `re_[0-9A-Za-z]{8}_[0-9A-Za-z]{24}`, entropy: 3.8, valid: mixed, inText: true},
		{id: "messagebird-key", title: "MessageBird key", severity: medium, keywords: []string{"messagebird"}, pattern: `(?i:messagebird)` + assigned + `(?P<s>[0-9A-Za-z]{25})`, entropy: 3.7, valid: mixed, inText: true},
	}
}

func models() []rule {
	return []rule{
		{id: "openai-key", title: "OpenAI key", severity: critical, keywords: []string{"T3BlbkFJ"}, pattern: `T3BlbkFJ[0-9A-Za-z_\-]{20,74}`, entropy: 3.5, anywhere: true},
		{id: "anthropic-key", title: "Anthropic key", severity: critical, keywords: []string{"sk-ant-"}, pattern: `sk-ant-(?:api|admin|oat|ort)\d{2}-[0-9A-Za-z_\-]{80,120}`, entropy: 4},
		{id: "huggingface-token", title: "Hugging Face token", severity: high, keywords: []string{"hf_", "api_org_"}, pattern: `(?:hf_[A-Za-z]{34,37}|api_org_[A-Za-z]{34})`, entropy: 4},
		{id: "replicate-token", title: "Replicate token", severity: high, keywords: []string{"r8_"}, pattern: `r8_[0-9A-Za-z]{37}`, entropy: 4},
		{id: "groq-key", title: "Groq key", severity: high, keywords: []string{"gsk_"}, pattern: `gsk_[0-9A-Za-z]{52}`, entropy: 4},
		{id: "perplexity-key", title: "Perplexity key", severity: high, keywords: []string{"pplx-"}, pattern: `pplx-[0-9A-Za-z]{48}`, entropy: 4},
		{id: "xai-key", title: "xAI key", severity: high, keywords: []string{"xai-"}, pattern: `xai-[0-9A-Za-z]{80}`, entropy: 4},
		{id: "openrouter-key", title: "OpenRouter key", severity: high, keywords: []string{"sk-or-v1-"}, pattern: `sk-or-v1-[0-9a-f]{64}`, entropy: 3},
		{id: "nvidia-key", title: "NVIDIA API key", severity: high, keywords: []string{"nvapi-"}, pattern: `nvapi-[0-9A-Za-z_\-]{60,70}`, entropy: 4},
		{id: "deepseek-key", title: "DeepSeek or Moonshot key", severity: high, keywords: []string{"deepseek", "moonshot"}, pattern: `(?i:deepseek|moonshot)` + assigned + `(?P<s>sk-[0-9A-Za-z]{32,48})`, entropy: 3.3},
		{id: "cohere-key", title: "Cohere key", severity: high, keywords: []string{"cohere", "co_api_key"}, pattern: `(?i:cohere|co_api_key)` + assigned + `(?P<s>[0-9A-Za-z]{40})`, entropy: 4, valid: mixed, inText: true},
		{id: "wandb-key", title: "Weights & Biases key", severity: medium, keywords: []string{"wandb"}, pattern: `(?i:wandb)` + assigned + hex40, entropy: 3, inText: true},
	}
}

func monitors() []rule {
	return []rule{
		{id: "grafana-token", title: "Grafana token", severity: high, keywords: []string{"glsa_", "glc_"}, pattern: `(?:glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}|glc_[0-9A-Za-z+/]{40,}={0,2})`, entropy: 3.5},
		{id: "newrelic-key", title: "New Relic key", severity: high, keywords: []string{"NRAK-", "NRII-", "NRJS-", "NRRA-"}, pattern: `(?:NRAK-[A-Z0-9]{27}|NRII-[0-9A-Za-z_\-]{32}|NRJS-[0-9a-f]{19}|NRRA-[0-9a-f]{42})`, entropy: 3},
		{id: "datadog-key", title: "Datadog key", severity: high, keywords: []string{"datadog", "dd_api_key", "dd_app_key"}, pattern: `(?i:datadog|dd_api_key|dd_app_key)` + assigned + `(?P<s>[0-9a-f]{40}|[0-9a-f]{32})`, entropy: 3, inText: true},
		{id: "sentry-token", title: "Sentry token", severity: high, keywords: []string{"sntrys_", "sntryu_"}, pattern: `(?:sntrys_eyJ[0-9A-Za-z_=+/\-]{60,}|sntryu_[0-9a-f]{64})`},
		{id: "dynatrace-token", title: "Dynatrace token", severity: high, keywords: []string{"dt0c01.", "dt0s01."}, pattern: `dt0[cs]01\.[A-Z0-9]{24}\.[A-Z0-9]{64}`},
		{id: "pagerduty-key", title: "PagerDuty key", severity: medium, keywords: []string{"pagerduty"}, pattern: `(?i:pagerduty)` + assigned + `(?P<s>[0-9A-Za-z_+\-]{20}|[0-9a-f]{32})`, entropy: 3.3, valid: mixed, inText: true},
		{id: "splunk-hec-token", title: "Splunk HEC token", severity: high, keywords: []string{"splunk"}, pattern: `(?i:splunk)[\w.\-]{0,20}(?i:token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + uuid, entropy: 3, inText: true},
		{id: "sumologic-key", title: "Sumo Logic key", severity: medium, keywords: []string{"sumologic", "sumo_"}, pattern: `(?i:sumologic|sumo_)` + assigned + `(?P<s>[0-9A-Za-z]{64})`, entropy: 4, inText: true},
		{id: "elastic-cloud-key", title: "Elastic API key", severity: high, keywords: []string{"elastic", "es_api_key"}, pattern: `(?i:elastic[a-z]{0,8}|es)_(?i:api_?key)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?(?P<s>[0-9A-Za-z_\-]{56,70}={1,2})`, entropy: 4, inText: true},
		{id: "launchdarkly-key", title: "LaunchDarkly key", severity: medium, keywords: []string{"sdk-", "api-"}, pattern: `(?:sdk|api)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`, inText: true},
		{id: "algolia-key", title: "Algolia admin key", severity: medium, keywords: []string{"algolia"}, pattern: `(?i:algolia)[\w.\-]{0,20}(?i:admin|secret)[\w.\-]{0,20}["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + hex32, entropy: 3, inText: true},
		{id: "mapbox-secret", title: "Mapbox secret token", severity: medium, keywords: []string{"sk.eyJ"}, pattern: `sk\.eyJ[0-9A-Za-z_\-]{60,100}\.[0-9A-Za-z_\-]{22}`},
		{id: "postman-key", title: "Postman key", severity: high, keywords: []string{"PMAK-"}, pattern: `PMAK-[0-9a-f]{24}-[0-9a-f]{34}`},
		{id: "figma-token", title: "Figma token", severity: medium, keywords: []string{"figd_"}, pattern: `figd_[0-9A-Za-z_\-]{40}`, entropy: 4},
		{id: "linear-key", title: "Linear key", severity: medium, keywords: []string{"lin_api_"}, pattern: `lin_api_[0-9A-Za-z]{40}`, entropy: 4},
		{id: "notion-token", title: "Notion token", severity: medium, keywords: []string{"ntn_", "secret_"}, pattern: `(?:ntn_\d{11}[0-9A-Za-z]{35}|secret_[0-9A-Za-z]{43})`, entropy: 4.2, valid: mixed, inText: true},
		{id: "airtable-token", title: "Airtable token", severity: medium, keywords: []string{"pat"}, pattern: `pat[0-9A-Za-z]{14}\.[0-9a-f]{64}`, entropy: 3, inText: true},
		{id: "asana-token", title: "Asana token", severity: medium, keywords: []string{"asana"}, pattern: `(?i:asana)` + assigned + `(?P<s>[0-9]/[0-9]{13,17}(?:/[0-9]{13,17})?:[0-9a-f]{32})`, inText: true},
		{id: "okta-token", title: "Okta token", severity: high, keywords: []string{"okta", "SSWS "}, pattern: `(?:(?i:okta)` + assigned + `|SSWS )(?P<s>00[0-9A-Za-z_\-]{40})`, entropy: 4, inText: true},
	}
}

func platforms() []rule {
	return []rule{
		{id: "vault-token", title: "HashiCorp Vault token", severity: critical, keywords: []string{"hvs.", "hvb.", "hvr."}, pattern: `hv[sbr]\.[0-9A-Za-z_\-]{90,}`, entropy: 4},
		{id: "vault-root-token", title: "HashiCorp Vault token", severity: critical, keywords: []string{"vault_token", "x-vault-token"}, pattern: `(?i:vault[_-]token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?(?P<s>(?:hvs\.|s\.)[0-9A-Za-z]{24})`, entropy: 3.3},
		{id: "terraform-token", title: "Terraform Cloud token", severity: critical, keywords: []string{".atlasv1."}, pattern: `\.atlasv1\.[0-9A-Za-z_\-=]{60,70}`, entropy: 4, anywhere: true},
		{id: "consul-token", title: "Consul token", severity: high, keywords: []string{"consul_http_token", "consul_token"}, pattern: `(?i:consul(?:_http)?_token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + uuid, entropy: 3},
		{id: "nomad-token", title: "Nomad token", severity: high, keywords: []string{"nomad_token"}, pattern: `(?i:nomad_token)["']?[ \t]{0,4}[=:][ \t]{0,4}["']?` + uuid, entropy: 3},
		{id: "pulumi-token", title: "Pulumi token", severity: high, keywords: []string{"pul-"}, pattern: `pul-[0-9a-f]{40}`, entropy: 3},
		{id: "databricks-token", title: "Databricks token", severity: high, keywords: []string{"dapi"}, pattern: `dapi[0-9a-f]{32}(?:-\d)?`, entropy: 3},
		{id: "doppler-token", title: "Doppler token", severity: high, keywords: []string{"dp.pt.", "dp.st.", "dp.ct.", "dp.sa."}, pattern: `dp\.(?:pt|st|ct|sa)\.(?:[a-z0-9\-_]{2,35}\.)?[0-9A-Za-z]{40,44}`, entropy: 4},
		{id: "planetscale-token", title: "PlanetScale token or password", severity: high, keywords: []string{"pscale_tkn_", "pscale_pw_", "pscale_oauth_"}, pattern: `pscale_(?:tkn|pw|oauth)_[0-9A-Za-z_.\-]{32,64}`, entropy: 3.5},
		{id: "supabase-token", title: "Supabase token", severity: high, keywords: []string{"sbp_", "sb_secret_"}, pattern: `(?:sbp_[0-9a-f]{40}|sb_secret_[0-9A-Za-z_\-]{31,40})`, entropy: 3},
		{id: "1password-token", title: "1Password service account token", severity: critical, keywords: []string{"ops_eyJ"}, pattern: `ops_eyJ[0-9A-Za-z+/]{250,}=*`},
		{id: "age-key", title: "age secret key", severity: critical, keywords: []string{"AGE-SECRET-KEY-1"}, pattern: `AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}`},
		{id: "kubernetes-bootstrap-token", title: "Token for joining a Kubernetes cluster", severity: high, keywords: []string{"kubeadm join"}, pattern: `kubeadm join [^\n]{3,120}--token[ =](?P<s>[a-z0-9]{6}\.[a-z0-9]{16})`},
		{id: "openshift-token", title: "OpenShift token", severity: high, keywords: []string{"sha256~"}, pattern: `sha256~[0-9A-Za-z_\-]{43}`, entropy: 4},
		{id: "tailscale-key", title: "Tailscale key", severity: high, keywords: []string{"tskey-"}, pattern: `tskey-(?:auth|api|client|scim|webhook)-[0-9A-Za-z]{8,20}-[0-9A-Za-z]{20,40}`, entropy: 3.5},
		{id: "ngrok-token", title: "ngrok token", severity: medium, keywords: []string{"ngrok"}, pattern: `(?i:ngrok)` + assigned + `(?P<s>[0-9A-Za-z]{20,30}_[0-9A-Za-z]{20,24})`, entropy: 4, inText: true},
		{id: "easypost-key", title: "EasyPost key", severity: medium, keywords: []string{"EZAK"}, pattern: `EZAK[0-9A-Za-z]{54}`, entropy: 4},
		{id: "duffel-token", title: "Duffel token", severity: medium, keywords: []string{"duffel_live_"}, pattern: `duffel_live_[0-9A-Za-z_\-=]{43}`},
		{id: "typeform-token", title: "Typeform token", severity: medium, keywords: []string{"tfp_"}, pattern: `tfp_[0-9A-Za-z_\-.=]{59}`, entropy: 4},
		{id: "prefect-token", title: "Prefect token", severity: medium, keywords: []string{"pnu_"}, pattern: `pnu_[0-9A-Za-z]{36}`, entropy: 3.7},
		{id: "readme-token", title: "ReadMe token", severity: medium, keywords: []string{"rdme_"}, pattern: `rdme_[0-9a-z]{70}`, entropy: 3.5},
		{id: "contentful-token", title: "Contentful management token", severity: medium, keywords: []string{"CFPAT-"}, pattern: `CFPAT-[0-9A-Za-z_\-]{43}`, entropy: 4},
		{id: "infracost-key", title: "Infracost key", severity: low, keywords: []string{"ico-"}, pattern: `ico-[0-9A-Za-z]{32}`, entropy: 4, valid: mixed, inText: true},
		{id: "yandex-key", title: "Yandex Cloud key", severity: high, keywords: []string{"AQVN", "t1."}, pattern: `(?:AQVN[0-9A-Za-z_\-]{35,38}|t1\.[0-9A-Za-z_\-]{100,}\.[0-9A-Za-z_\-]{86}={0,2})`, entropy: 4, inText: true},
		{id: "dropbox-token", title: "Dropbox access token", severity: high, keywords: []string{"sl.B", "sl.u"}, pattern: `sl\.[Bu]\.?[0-9A-Za-z_\-]{130,}`, entropy: 4},
	}
}

func formats() []rule {
	return []rule{
		{id: "private-key", title: "Private key", severity: critical, keywords: []string{"-----BEGIN "}, pattern: `-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP |SSH2 ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----`, anywhere: true},
		{id: "putty-key", title: "PuTTY private key", severity: high, keywords: []string{"PuTTY-User-Key-File-"}, pattern: `PuTTY-User-Key-File-\d: [a-z0-9\-]{3,40}\r?\nEncryption: none`},
		{id: "jwt", title: "JSON web token", severity: medium, keywords: []string{"eyJ"}, pattern: `eyJ[0-9A-Za-z_\-]{14,}\.eyJ[0-9A-Za-z_\-]{14,}\.[0-9A-Za-z_\-]{20,}`, valid: jwt},
		{id: "url-credentials", title: "Password in an address", severity: high, keywords: []string{"://"}, pattern: `://[A-Za-z0-9._%+\-]{1,64}:(?P<s>[^\s@/:"'<>{}\\$#|^` + "`" + `\[\]()]{4,128})@[A-Za-z0-9][A-Za-z0-9.\-]{2,120}`, valid: likelyPassword, inText: true, anywhere: true},
		{id: "basic-authorization", title: "HTTP basic authorization", severity: medium, keywords: []string{"authorization"}, pattern: `(?i:authorization)["']?\s{0,4}[:=,]\s{0,4}["']?(?i:basic)\s(?P<s>[A-Za-z0-9+/]{12,200}={0,2})`, valid: basicAuthorization, inText: true, anywhere: true},
		{id: "bearer-authorization", title: "HTTP bearer authorization", severity: medium, keywords: []string{"authorization"}, pattern: `(?i:authorization)["']?\s{0,4}[:=,]\s{0,4}["']?(?i:bearer|token)\s(?P<s>[A-Za-z0-9_\-.=+/]{24,})`, entropy: 3.7, valid: mixed, inText: true, anywhere: true},
	}
}

// accountIDs are the beginnings of Twilio's account ids: "AC" and a hexadecimal digit.
func accountIDs() []string {
	var all []string
	for _, digit := range "0123456789abcdef" {
		all = append(all, "AC"+string(digit))
	}
	return all
}
