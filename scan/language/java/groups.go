package java

import (
	"strconv"
	"strings"
)

// knownGroup is the group of well-known libraries whose jars do not say it, mostly because Gradle or Ant built them.
// Without the group no advisory can be found.
func knownGroup(c coordinates) string {
	first, _, _ := strings.Cut(c.version, ".")
	major, _ := strconv.Atoi(first)
	best := groupLine{}
	for _, line := range groups {
		if line.below != 0 && major >= line.below {
			continue
		}
		prefix, open := strings.CutSuffix(line.artifact, "*")
		if c.artifact != line.artifact && !(open && strings.HasPrefix(c.artifact, prefix)) {
			continue
		}
		if best.artifact == "" || len(line.artifact) > len(best.artifact) {
			best = line
		}
	}
	return best.group
}

// tomcat names the jars of Tomcat's own distribution, whose files are called otherwise than in Maven's repository.
func tomcat(c coordinates) coordinates {
	c.group = "org.apache.tomcat"
	switch {
	case strings.HasPrefix(c.artifact, "tomcat-embed-"):
		c.group = "org.apache.tomcat.embed"
	case c.artifact == "catalina-tribes":
		c.artifact = "tomcat-tribes"
	case c.artifact == "bootstrap":
		c.artifact = "tomcat-catalina"
	case !strings.HasPrefix(c.artifact, "tomcat-"):
		c.artifact = "tomcat-" + c.artifact
	}
	return c
}

// groupLine says the group of an artifact, or of all that begin so ("*"); where both are there the longer one counts,
// of two that are equally long the first.
type groupLine struct {
	artifact string
	group    string
	below    int // only for major versions below this one
}

// groups is where a library is added.
var groups = []groupLine{
	{"HikariCP", "com.zaxxer", 0},
	{"activemq-*", "org.apache.activemq", 0},
	{"akka-*", "com.typesafe.akka", 0},
	{"amqp-client", "com.rabbitmq", 0},
	{"ant", "org.apache.ant", 0},
	{"ant-*", "org.apache.ant", 0},
	{"aopalliance", "aopalliance", 0},
	{"antisamy", "org.owasp.antisamy", 0},
	{"avro", "org.apache.avro", 0},
	{"aws-java-sdk-*", "com.amazonaws", 0},
	{"batik-*", "org.apache.xmlgraphics", 0},
	{"bcmail-*", "org.bouncycastle", 0},
	{"bcpg-*", "org.bouncycastle", 0},
	{"bcpkix-*", "org.bouncycastle", 0},
	{"bcprov-*", "org.bouncycastle", 0},
	{"bctls-*", "org.bouncycastle", 0},
	{"bcutil-*", "org.bouncycastle", 0},
	{"bc-fips", "org.bouncycastle", 0},
	{"brave*", "io.zipkin.brave", 0},
	{"bson", "org.mongodb", 0},
	{"c3p0", "com.mchange", 0},
	{"camel-*", "org.apache.camel", 0},
	{"commons-beanutils", "commons-beanutils", 0},
	{"commons-cli", "commons-cli", 0},
	{"commons-codec", "commons-codec", 0},
	{"commons-collections", "commons-collections", 0},
	{"commons-configuration", "commons-configuration", 0},
	{"commons-dbcp", "commons-dbcp", 0},
	{"commons-digester", "commons-digester", 0},
	{"commons-fileupload", "commons-fileupload", 0},
	{"commons-httpclient", "commons-httpclient", 0},
	{"commons-io", "commons-io", 0},
	{"commons-jxpath", "commons-jxpath", 0},
	{"commons-lang", "commons-lang", 0},
	{"commons-logging", "commons-logging", 0},
	{"commons-net", "commons-net", 0},
	{"commons-pool", "commons-pool", 0},
	{"commons-validator", "commons-validator", 0},
	{"commons-*", "org.apache.commons", 0},
	{"connect-*", "org.apache.kafka", 0},
	{"cxf-*", "org.apache.cxf", 0},
	{"derby*", "org.apache.derby", 0},
	{"dom4j", "dom4j", 2},
	{"dom4j", "org.dom4j", 0},
	{"dropwizard-*", "io.dropwizard", 0},
	{"druid", "com.alibaba", 0},
	{"ehcache", "net.sf.ehcache", 3},
	{"ehcache", "org.ehcache", 0},
	{"elasticsearch", "org.elasticsearch", 0},
	{"elasticsearch-*", "org.elasticsearch", 0},
	{"elasticsearch-rest-*", "org.elasticsearch.client", 0},
	{"esapi", "org.owasp.esapi", 0},
	{"fastjson", "com.alibaba", 0},
	{"flink-*", "org.apache.flink", 0},
	{"flyway-core", "org.flywaydb", 0},
	{"fontbox", "org.apache.pdfbox", 0},
	{"freemarker", "org.freemarker", 0},
	{"groovy*", "org.codehaus.groovy", 4},
	{"groovy*", "org.apache.groovy", 0},
	{"grpc-*", "io.grpc", 0},
	{"gson", "com.google.code.gson", 0},
	{"guava", "com.google.guava", 0},
	{"guice", "com.google.inject", 0},
	{"guice-*", "com.google.inject.extensions", 0},
	{"h2", "com.h2database", 0},
	{"hadoop-*", "org.apache.hadoop", 0},
	{"hazelcast*", "com.hazelcast", 0},
	{"hbase-*", "org.apache.hbase", 0},
	{"hibernate-*", "org.hibernate", 6},
	{"hibernate-*", "org.hibernate.orm", 0},
	{"hibernate-validator*", "org.hibernate", 6},
	{"hibernate-validator*", "org.hibernate.validator", 0},
	{"hive-*", "org.apache.hive", 0},
	{"hsqldb", "org.hsqldb", 0},
	{"httpclient", "org.apache.httpcomponents", 0},
	{"httpclient5*", "org.apache.httpcomponents.client5", 0},
	{"httpcore", "org.apache.httpcomponents", 0},
	{"httpcore-nio", "org.apache.httpcomponents", 0},
	{"httpcore5*", "org.apache.httpcomponents.core5", 0},
	{"httpmime", "org.apache.httpcomponents", 0},
	{"ignite-*", "org.apache.ignite", 0},
	{"infinispan-*", "org.infinispan", 0},
	{"jackson-annotations", "com.fasterxml.jackson.core", 0},
	{"jackson-core", "com.fasterxml.jackson.core", 0},
	{"jackson-core-asl", "org.codehaus.jackson", 0},
	{"jackson-databind", "com.fasterxml.jackson.core", 0},
	{"jackson-dataformat-*", "com.fasterxml.jackson.dataformat", 0},
	{"jackson-datatype-*", "com.fasterxml.jackson.datatype", 0},
	{"jackson-mapper-asl", "org.codehaus.jackson", 0},
	{"jackson-module-*", "com.fasterxml.jackson.module", 0},
	{"java-jwt", "com.auth0", 0},
	{"javax.inject", "javax.inject", 0},
	{"jdom", "org.jdom", 0},
	{"jdom2", "org.jdom", 0},
	{"jedis", "redis.clients", 0},
	{"jettison", "org.codehaus.jettison", 0},
	{"jetty-*", "org.eclipse.jetty", 0},
	{"jgroups", "org.jgroups", 0},
	{"jjwt*", "io.jsonwebtoken", 0},
	{"jruby-*", "org.jruby", 0},
	{"jsch", "com.jcraft", 0},
	{"json", "org.json", 0},
	{"json-path", "com.jayway.jsonpath", 0},
	{"json-smart", "net.minidev", 0},
	{"jsoup", "org.jsoup", 0},
	{"jsr305", "com.google.code.findbugs", 0},
	{"junit", "junit", 0},
	{"junit-jupiter*", "org.junit.jupiter", 0},
	{"jython*", "org.python", 0},
	{"kafka-*", "org.apache.kafka", 0},
	{"kafka_*", "org.apache.kafka", 0},
	{"kotlin-*", "org.jetbrains.kotlin", 0},
	{"kotlinx-*", "org.jetbrains.kotlinx", 0},
	{"ktor-*", "io.ktor", 0},
	{"lettuce-core", "io.lettuce", 0},
	{"libthrift", "org.apache.thrift", 0},
	{"liquibase-core", "org.liquibase", 0},
	{"log4j", "log4j", 0},
	{"log4j-*", "org.apache.logging.log4j", 0},
	{"logback-*", "ch.qos.logback", 0},
	{"lucene-*", "org.apache.lucene", 0},
	{"mariadb-java-client", "org.mariadb.jdbc", 0},
	{"metrics-*", "io.dropwizard.metrics", 0},
	{"micrometer-*", "io.micrometer", 0},
	{"micronaut-*", "io.micronaut", 0},
	{"mockito-*", "org.mockito", 0},
	{"mongo-java-driver", "org.mongodb", 0},
	{"mongodb-driver-*", "org.mongodb", 0},
	{"moshi*", "com.squareup.moshi", 0},
	{"mssql-jdbc", "com.microsoft.sqlserver", 0},
	{"mysql-connector-j", "com.mysql", 0},
	{"mysql-connector-java", "mysql", 0},
	{"netty", "io.netty", 0},
	{"netty-*", "io.netty", 0},
	{"nimbus-jose-jwt", "com.nimbusds", 0},
	{"ojdbc*", "com.oracle.database.jdbc", 0},
	{"okhttp*", "com.squareup.okhttp", 3},
	{"okhttp*", "com.squareup.okhttp3", 0},
	{"okio*", "com.squareup.okio", 0},
	{"opensearch", "org.opensearch", 0},
	{"opensearch-*", "org.opensearch", 0},
	{"opentelemetry-*", "io.opentelemetry", 0},
	{"opentelemetry-javaagent*", "io.opentelemetry.javaagent", 0},
	{"parquet-*", "org.apache.parquet", 0},
	{"pdfbox*", "org.apache.pdfbox", 0},
	{"plexus-*", "org.codehaus.plexus", 0},
	{"poi", "org.apache.poi", 0},
	{"poi-*", "org.apache.poi", 0},
	{"postgresql", "org.postgresql", 0},
	{"protobuf-java*", "com.google.protobuf", 0},
	{"quartz", "org.quartz-scheduler", 0},
	{"reactor-*", "io.projectreactor", 0},
	{"reactor-netty*", "io.projectreactor.netty", 0},
	{"retrofit", "com.squareup.retrofit2", 0},
	{"rsocket-*", "io.rsocket", 0},
	{"rxjava", "io.reactivex", 2},
	{"rxjava", "io.reactivex.rxjava2", 3},
	{"rxjava", "io.reactivex.rxjava3", 0},
	{"scala-*", "org.scala-lang", 0},
	{"shiro-*", "org.apache.shiro", 0},
	{"slf4j-*", "org.slf4j", 0},
	{"snakeyaml", "org.yaml", 0},
	{"snappy-java", "org.xerial.snappy", 0},
	{"solr-*", "org.apache.solr", 0},
	{"spark-*", "org.apache.spark", 0},
	{"spring-*", "org.springframework", 0},
	{"spring-amqp", "org.springframework.amqp", 0},
	{"spring-batch-*", "org.springframework.batch", 0},
	{"spring-boot*", "org.springframework.boot", 0},
	{"spring-cloud-*", "org.springframework.cloud", 0},
	{"spring-data-*", "org.springframework.data", 0},
	{"spring-graphql", "org.springframework.graphql", 0},
	{"spring-hateoas", "org.springframework.hateoas", 0},
	{"spring-integration-*", "org.springframework.integration", 0},
	{"spring-kafka*", "org.springframework.kafka", 0},
	{"spring-ldap-*", "org.springframework.ldap", 0},
	{"spring-plugin-*", "org.springframework.plugin", 0},
	{"spring-rabbit*", "org.springframework.amqp", 0},
	{"spring-retry", "org.springframework.retry", 0},
	{"spring-security-*", "org.springframework.security", 0},
	{"spring-session-*", "org.springframework.session", 0},
	{"spring-shell-*", "org.springframework.shell", 0},
	{"spring-statemachine-*", "org.springframework.statemachine", 0},
	{"spring-vault-*", "org.springframework.vault", 0},
	{"spring-ws-*", "org.springframework.ws", 0},
	{"sqlite-jdbc", "org.xerial", 0},
	{"sshd-*", "org.apache.sshd", 0},
	{"struts2-*", "org.apache.struts", 0},
	{"testng", "org.testng", 0},
	{"thymeleaf*", "org.thymeleaf", 0},
	{"tika-*", "org.apache.tika", 0},
	{"undertow-*", "io.undertow", 0},
	{"velocity", "org.apache.velocity", 0},
	{"velocity-*", "org.apache.velocity", 0},
	{"vertx-*", "io.vertx", 0},
	{"woodstox-core", "com.fasterxml.woodstox", 0},
	{"xalan", "xalan", 0},
	{"xercesImpl", "xerces", 0},
	{"xmlgraphics-commons", "org.apache.xmlgraphics", 0},
	{"xstream", "com.thoughtworks.xstream", 0},
	{"zookeeper", "org.apache.zookeeper", 0},
}
