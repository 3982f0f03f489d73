# Stands in for the public nginx image: the same paths, with a current static nginx from its wheel.
FROM base
COPY nginx.real /usr/lib/nginx/nginx
COPY nginx /usr/sbin/nginx
COPY nginx.conf mime.types /etc/nginx/
RUN mkdir -p /etc/nginx/conf.d /var/log/nginx /var/cache/nginx \
    && useradd --system --uid 101 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nginx \
    && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
