<%= "hello from tomcat " + 6 * 7 %>
